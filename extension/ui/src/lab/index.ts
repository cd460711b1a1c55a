/*
 * The JupyterLab extension: a status item that says what my GPU piece does.
 *
 * In JupyterLab it stands in the status bar; Notebook 7 has none, there it stands in the
 * top area. Everything is optional: without a status bar, a palette or a translator the
 * rest still works, and nothing here can keep JupyterLab from starting.
 */

import type { JupyterFrontEnd, JupyterFrontEndPlugin } from '@jupyterlab/application';
import { ICommandPalette, Notification } from '@jupyterlab/apputils';
import { IStatusBar } from '@jupyterlab/statusbar';
import { ITranslator } from '@jupyterlab/translation';
import { Widget } from '@lumino/widgets';

import { absolute } from '../shared/server';
import { isKorean, translator } from '../shared/words';
import { StatusItem } from './statusItem';

const SHOW_USAGE = 'aliquot:show-usage';

const plugin: JupyterFrontEndPlugin<void> = {
  id: '@aliquot/lab:status',
  description: 'Shows the memory and the load of this server’s GPU piece.',
  autoStart: true,
  optional: [IStatusBar, ICommandPalette, ITranslator],
  activate(
    app: JupyterFrontEnd,
    statusBar: IStatusBar | null,
    palette: ICommandPalette | null,
    languages: ITranslator | null
  ): void {
    const locale = languages?.languageCode ?? 'en';
    const pack = languages?.load('aliquot_lab');
    const t = translator(locale, (sentence) => pack?.__(sentence) ?? sentence);
    const item = new StatusItem({
      base: absolute(app.serviceManager.serverSettings.baseUrl, document),
      lang: isKorean(locale) ? 'ko' : 'en',
      t,
      warn: (sentence) => void Notification.warning(sentence, { autoClose: 10_000 })
    });
    const widget = new Widget({ node: item.node });
    widget.id = 'aliquot-status';
    widget.disposed.connect(() => item.dispose());
    if (statusBar !== null) {
      statusBar.registerStatusItem(plugin.id, { item: widget, align: 'left', rank: 3 });
    } else {
      app.shell.add(widget, 'top', { rank: 900 });
    }

    app.commands.addCommand(SHOW_USAGE, {
      label: t('GPU: show my usage'),
      execute: () => item.showDetails(),
      describedBy: { args: { type: 'object', properties: {} } }
    });
    palette?.addItem({ command: SHOW_USAGE, category: 'GPU' });
  }
};

export default plugin;
