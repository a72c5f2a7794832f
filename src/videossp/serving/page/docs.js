// Shows the OpenAPI document of this server with Swagger UI.
SwaggerUIBundle({ url: 'openapi.json', dom_id: '#swagger-ui', validatorUrl: null, defaultModelsExpandDepth: -1 });
