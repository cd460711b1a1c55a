/*
 * jsdom has no canvas and complains of each use; a page without one shows the text alone.
 */

HTMLCanvasElement.prototype.getContext = () => null;
