// Colours: ComfyUI's own for text and lines, and curves told apart with any colour vision.
// Source of the curves: Okabe and Ito 2008, "Color Universal Design", as in trustopt/signals.

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"]
const DARK = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#f0f0f0"]

/**
 * @typedef {object} Theme
 * @property {string} text
 * @property {string} muted
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
  const curves = luma(style.backgroundColor) < 128 ? DARK : LIGHT
  return {
    text: style.color,
    muted: style.getPropertyValue("--trustopt-muted"),
    alert: "#d55e00",
    curve: (index) => curves[index % curves.length],
  }
}

const lumas = new Map()

/** How bright a CSS colour is, 0 to 255: a canvas reads every way of writing one. */
function luma(color) {
  if (!lumas.has(color)) {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
    const ctx = canvas.getContext("2d")
    ctx.fillStyle = color
    ctx.fillRect(0, 0, 1, 1)
    const [red, green, blue] = ctx.getImageData(0, 0, 1, 1).data
    lumas.set(color, 0.299 * red + 0.587 * green + 0.114 * blue)
  }
  return lumas.get(color)
}
