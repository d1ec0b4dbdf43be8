// Numbers with separators and units, times in the viewer's zone.

export const UNKNOWN = "–";

const integers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const decimals = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1, minimumFractionDigits: 1 });

const hundredths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 2 });
const thousandths = new Intl.NumberFormat(undefined, { maximumFractionDigits: 3, minimumFractionDigits: 3 });

const orUnknown = (text) => (value) => (value === null || value === undefined ? UNKNOWN : text(value));

/** 48063 → 48,063 */
export const count = orUnknown((value) => integers.format(value));

/** 84.23 → 84.2 */
export const decimal = orUnknown((value) => decimals.format(value));

/** A number of any size with about `digits` significant digits. */
export function significant(value, digits = 3) {
  if (value === null || value === undefined) return UNKNOWN;
  return new Intl.NumberFormat(undefined, { maximumSignificantDigits: digits }).format(value);
}

/** 0.0526 → 5.26 % */
export const percent = orUnknown((value) => `${hundredths.format(value * 100)} %`);

/** 84.23 → 84.2 images/s */
export const rate = orUnknown((value) => `${decimal(value)} images/s`);

/** 0.6301 → 0.630, as drift is written: its digits are fixed, so that a column can be read. */
export const fraction = orUnknown((value) => thousandths.format(value));

/** 2436302 → 2.4 MB */
export const bytes = orUnknown((value) => {
  if (value < 1000) return `${integers.format(value)} B`;
  const power = Math.min(Math.floor(Math.log10(value) / 3), 5);
  return `${decimals.format(value / 1000 ** power)} ${["B", "kB", "MB", "GB", "TB", "PB"][power]}`;
});

/** Seconds as a person says them: 70 ms, 9.8 s, 9 min 12 s, 3 h 20 min. */
export const duration = orUnknown((seconds) => {
  if (seconds < 1) return `${significant(seconds * 1000, 2)} ms`;
  if (seconds < 10) return `${significant(seconds, 2)} s`;
  if (seconds < 60) return `${decimals.format(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${integers.format(Math.floor(whole / 3600))} h ${Math.floor((whole % 3600) / 60)} min`;
});

/** 3 → 3 files, 1 → 1 file */
export function counted(value, singular, plural = `${singular}s`) {
  return `${count(value)} ${value === 1 ? singular : plural}`;
}

/** A partition key where there is little room: of a day month and day, of an hour that too, of a long name its end. */
export function shortKey(key) {
  const [, date, hour] = /^(\d{4}-\d\d-\d\d)(?:T(\d\d)(?:[-_]\d{4})?)?$/.exec(key) ?? [];
  const day = new Date(`${date}T00:00:00Z`);
  if (!date || Number.isNaN(day.getTime())) return key.length > 11 ? `…${key.slice(-10)}` : key;
  const short = day.toLocaleDateString("en", { month: "short", day: "numeric", timeZone: "UTC" });
  return hour ? `${short} ${hour}h` : short;
}

/** The zone chosen in Airflow, else the browser's. */
export const zone = (() => {
  try {
    const chosen = JSON.parse(localStorage.getItem("timezone") ?? "null");
    return new Intl.DateTimeFormat("en", { timeZone: chosen ?? undefined }).resolvedOptions().timeZone;
  } catch {
    return new Intl.DateTimeFormat().resolvedOptions().timeZone;
  }
})();

/** 2026-11-22 09:15, in the viewer's zone, written as Airflow writes it. */
export function clock(iso) {
  if (!iso) return UNKNOWN;
  const options = {
    ...{ year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit" },
    ...{ hourCycle: "h23", timeZone: zone },
  };
  const parts = new Intl.DateTimeFormat("en", options).formatToParts(new Date(iso));
  const part = Object.fromEntries(parts.map(({ type, value }) => [type, value]));
  return `${part.year}-${part.month}-${part.day} ${part.hour}:${part.minute}`;
}
