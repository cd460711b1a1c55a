/*
 * Build everything that the Python packages carry: one command, three outputs.
 *
 * `npm run build` writes, beside this folder's sources,
 *   ../aliquot_lab/labextension/                         the JupyterLab extension
 *   ../aliquot_lab/static/usage.js                       the widget's view
 *   ../../spawner/aliquot/spawners/static/picker.{js,css} the spawn page's script
 *
 * The labextension is built by @jupyter/builder itself, with the shared packages that
 * @jupyterlab/core-meta names: no JupyterLab and no Python are needed here.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import * as esbuild from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const labextension = join(here, '../aliquot_lab/labextension');
const widget = join(here, '../aliquot_lab/static');
const picker = join(here, '../../spawner/aliquot/spawners/static');
const require = createRequire(import.meta.url);

function run(...command) {
  const done = spawnSync(process.execPath, command, { cwd: here, stdio: 'inherit' });
  if (done.status !== 0) {
    console.error(`Building the pages failed: ${command[0]} ended with ${done.status}.`);
    process.exit(done.status ?? 1);
  }
}

function packageFile(name, path) {
  return join(dirname(require.resolve(`${name}/package.json`)), path);
}

function sizes(folder) {
  for (const name of readdirSync(folder).sort()) {
    const path = join(folder, name);
    if (statSync(path).isFile() && /\.(js|css)$/.test(name)) {
      const packed = gzipSync(readFileSync(path), { level: 9 }).length;
      console.log(`${(packed / 1024).toFixed(1).padStart(7)} KB gz  ${name}`);
    }
  }
}

// Stale output of a renamed source would be bundled or shipped: begin empty.
rmSync(join(here, 'lib'), { recursive: true, force: true });
run(packageFile('typescript', 'lib/tsc.js'), '-p', 'tsconfig.lab.json');
run(
  packageFile('@jupyter/builder', 'lib/build-labextension.js'),
  '--core-package-file',
  packageFile('@jupyterlab/core-meta', 'core.package.json'),
  here
);

mkdirSync(widget, { recursive: true });
mkdirSync(picker, { recursive: true });
const common = { bundle: true, minify: true, target: 'es2022', charset: 'utf8', logLevel: 'warning' };
await esbuild.build({
  ...common,
  entryPoints: [join(here, 'src/widget/usage.ts')],
  format: 'esm',
  outfile: join(widget, 'usage.js')
});
await esbuild.build({
  ...common,
  entryPoints: [join(here, 'src/picker/start.ts')],
  format: 'iife',
  outfile: join(picker, 'picker.js')
});
await esbuild.build({
  ...common,
  entryPoints: [join(here, 'src/picker/picker.css')],
  outfile: join(picker, 'picker.css')
});

for (const folder of [join(labextension, 'static'), widget, picker]) sizes(folder);
