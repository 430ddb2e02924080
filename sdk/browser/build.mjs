// Makes track.min.js from track.js. `--check` writes nothing and fails if the file is not what would be made, or too big.
//
//   node sdk/browser/build.mjs [--check]
//
// terser, in its pinned version, is fetched by `scripts/tools --clients`.
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { gzipSync } from 'node:zlib';

const MAX_GZIPPED = 2048;
const source = new URL('track.js', import.meta.url);
const target = new URL('track.min.js', import.meta.url);

const { minify } = createRequire(new URL('../../tests/clients/package.json', import.meta.url))('terser');
const { code } = await minify(readFileSync(source, 'utf8'), {
  ecma: 2020,
  compress: { passes: 4, unsafe_arrows: true, unsafe_methods: true },
  mangle: true,
  format: { comments: false },
});
const made = `${code}\n`;
const size = gzipSync(made, { level: 9 }).length;
console.log(`track.min.js: ${made.length} bytes, ${size} gzipped, at most ${MAX_GZIPPED}`);

if (size > MAX_GZIPPED) {
  console.error('track.min.js is too big');
  process.exitCode = 1;
} else if (!process.argv.includes('--check')) {
  writeFileSync(target, made);
} else if (readFileSync(target, 'utf8') !== made) {
  console.error('track.min.js is not made from this track.js: run node sdk/browser/build.mjs');
  process.exitCode = 1;
}
