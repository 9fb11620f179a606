// How the numbers of a vector are written where a VectorEncoding stands beside it: docs/wire-protocol.md's table.
//
// Known here are float32, float16, bfloat16 and int8, all without zstd, which Node has from 22.15 on. A client that
// does not know an encoding of a task cannot read what others may write in it, and so does not join that task.

export const KNOWN = ["float32", "float16", "bfloat16", "int8"]; // by their numbers on the wire
const [FLOAT32, FLOAT16, BFLOAT16, INT8] = KNOWN.keys();
const [BLOCK, STEPS, LARGEST_SCALE] = [256, 127, 1e36];
const scalesOf = (n) => 4 * Math.ceil(n / BLOCK); // bytes
const bytesOf = (n, numbers) => ({ [FLOAT32]: 4 * n, [INT8]: scalesOf(n) + n })[numbers] ?? 2 * n;

// As a task's `merging.encodings` would name it.
export const nameOf = ({ numbers, zstd }) => (KNOWN[numbers] ?? `no. ${numbers}`) + (zstd ? "+zstd" : "");

// What may stand beside a vector in a task that names these: they, float32, and float16 beside anything else.
export const allowedBy = (names) => new Set(["float32", ...names, ...(names.length ? ["float16"] : [])]);

// n numbers, float32, of bytes in this encoding; undefined where their length is not that of n numbers.
export function decode(bytes, n, { numbers }) {
  if (bytes.length !== bytesOf(n, numbers)) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = new Float32Array(n);
  for (let k = 0; k < n; k++) {
    if (numbers === FLOAT32) found[k] = view.getFloat32(4 * k, true);
    else if (numbers === FLOAT16) found[k] = half(view.getUint16(2 * k, true));
    else if (numbers === BFLOAT16) found[k] = upper(view.getUint16(2 * k, true));
    else found[k] = scaleAt(view, k) * stepAt(view, scalesOf(n) + k);
  }
  return found;
}
function scaleAt(view, k) {
  const scale = view.getFloat32(4 * Math.floor(k / BLOCK), true);
  return scale >= 0 && scale <= LARGEST_SCALE ? scale : NaN;
}
function stepAt(view, place) {
  const step = view.getInt8(place);
  return step >= -STEPS ? step : NaN;
}
// A float16: a sign, five bits of exponent, ten of the fraction.
function half(bits) {
  const [sign, exponent, fraction] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}
const scratch = new DataView(new ArrayBuffer(4));
function upper(bits) {
  scratch.setUint32(0, bits * 65_536);
  return scratch.getFloat32(0);
}

// A Float32Array as int8: the scales of its blocks, and then a step for each number.
export function int8(numbers) {
  const from = scalesOf(numbers.length);
  const bytes = Buffer.alloc(from + numbers.length);
  for (let start = 0; start < numbers.length; start += BLOCK) {
    const block = numbers.subarray(start, start + BLOCK);
    const scale = Math.fround(block.reduce((most, number) => Math.max(most, Math.abs(number)), 0) / STEPS);
    bytes.writeFloatLE(scale, (4 * start) / BLOCK);
    for (const [k, number] of block.entries()) {
      const step = scale > 0 ? Math.round(number / scale) : 0;
      bytes.writeInt8(Math.max(-STEPS, Math.min(STEPS, step)), from + start + k);
    }
  }
  return bytes;
}
