// Colours: ComfyUI's own for text and lines, and curves told apart with any colour vision.
// Source of the curves: Okabe and Ito 2008, "Color Universal Design", as in trustopt/signals.

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
const DARK = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#f0f0f0"]

/**
 * @typedef {object} Theme
 * @property {string} text
 * @property {string} muted
 * @property {string} grid
 * @property {string} alert
 * @property {(index: number) => string} curve
 */

/**
 * The colours on an element's background, whatever palette the user chose.
 * @param {HTMLElement} element
 * @returns {Theme}
 */
export function themeOf(element) {
  const style = getComputedStyle(element)
  const curves = isDark(style.backgroundColor) ? DARK : LIGHT
  return {
    text: style.color,
    muted: style.getPropertyValue("--trustopt-muted"),
    grid: style.getPropertyValue("--trustopt-grid"),
    alert: "#d55e00",
    curve: (index) => curves[index % curves.length],
  }
}

/** Whether a computed colour is nearer to black: by the luma of its red, green and blue. */
function isDark(color) {
  const [red, green, blue] = (color.match(/[\d.]+/g) ?? [0, 0, 0]).map(Number)
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128
}
