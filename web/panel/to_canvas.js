// Zooming and panning the graph goes on while the mouse is over the panel.

import { app } from "../comfy.js"

/** Around an element that lies above the canvas; in Nodes 2.0 the page itself passes events on. */
const CLASSIC = ".dom-widget"

const MIDDLE = 1
const MIDDLE_HELD = 4

/**
 * Pass the wheel and the middle button on to the graph.
 * @param {HTMLElement} target
 */
export function forwardToCanvas(target) {
  const pass = (type, isMeant, method) => {
    target.addEventListener(type, (event) => {
      if (!isMeant(event) || !target.closest(CLASSIC)) return
      event.preventDefault()
      app.canvas[method](event)
    })
  }
  pass("wheel", () => true, "processMouseWheel")
  pass("pointerdown", (event) => event.button === MIDDLE, "processMouseDown")
  pass("pointermove", (event) => event.buttons === MIDDLE_HELD, "processMouseMove")
  pass("pointerup", (event) => event.button === MIDDLE, "processMouseUp")
}
