// Numbers as text, in the same form on the whole page.

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function bytes(count) {
  const [unit, size] = count >= 1e9 ? ["GB", 1e9] : count >= 1e6 ? ["MB", 1e6] : ["kB", 1e3];
  return `${Number((count / size).toPrecision(3))} ${unit}`;
}

export const short = (number) => String(Number(number.toPrecision(2))).replace("-", "\u2212");

export const fixed = (number, digits = 2) => {
  const text = number.toFixed(digits);
  return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212");
};

export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const rest = ((tenths % 600) / 10).toFixed(1).padStart(4, "0");
  const minutes = Math.floor(tenths / 600);
  const hours = Math.floor(minutes / 60);
  return hours ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}
