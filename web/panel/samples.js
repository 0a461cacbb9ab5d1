// The sample pictures of a run: one row, the newest step's, with earlier steps to leaf through.

import { runUrl } from "../server.js"
import { text } from "../texts.js"
import { button, element, write } from "./element.js"

/** Longer side of a small picture in pixels: the graph is zoomed in, too. */
const THUMB = 256

const GRID = "grid.png"

/**
 * @typedef {object} Picture
 * @property {string} file
 * @property {number} step
 * @property {string} prompt
 */

/** Shows one run at a time; hidden while it has no pictures. */
export class SampleStrip {
  #runId = ""
  /** Pictures of each step, ascending. @type {Map<number, Picture[]>} */
  #steps = new Map()
  /** The step the user leafed to; null follows the newest. @type {number | null} */
  #chosen = null
  /** Counts what was received: a resumed run makes pictures anew under their names. */
  #version = 0
  isShown = false

  /** @param {() => void} onShown the row has appeared */
  constructor(onShown) {
    this.onShown = onShown
    this.back = button(["‹"], text("earlierSamples"), () => this.#leaf(-1))
    this.forth = button(["›"], text("laterSamples"), () => this.#leaf(1))
    this.heading = element("span", "trustopt-step")
    this.grid = link([text("samplesGrid")], text("samplesGridHint"))
    this.note = element("span", "trustopt-note")
    this.row = element("div", "trustopt-thumbs")
    const head = [this.back, this.heading, this.forth, this.grid, this.note]
    this.element = element("div", "trustopt-samples", [
      element("div", "trustopt-row", head),
      this.row,
    ])
    this.#show()
  }

  /** Show a run's pictures from now on. @param {string} runId */
  follow(runId) {
    if (runId === this.#runId) return
    this.#runId = runId
    this.#steps.clear()
    this.#chosen = null
    this.#changed()
  }

  /** Add a step's pictures. @param {Picture[]} pictures */
  add(pictures) {
    const { step } = pictures[0]
    // A resumed run comes by steps again that it had reached before.
    for (const later of [...this.#steps.keys()]) if (later >= step) this.#steps.delete(later)
    this.#steps.set(step, pictures)
    this.#changed()
  }

  /** Replace all pictures but newer ones. @param {Picture[]} pictures ascending by step */
  replace(pictures) {
    const last = pictures.at(-1)?.step ?? -1
    const newer = [...this.#steps].filter(([step]) => step > last)
    this.#steps.clear()
    for (const picture of pictures) {
      const { step } = picture
      this.#steps.set(step, [...(this.#steps.get(step) ?? []), picture])
    }
    for (const [step, shown] of newer) this.#steps.set(step, shown)
    this.#changed()
  }

  /** Say why a step has no pictures. @param {string} problem */
  fail(problem) {
    write(this.note, problem)
    this.note.title = problem
    this.#show()
  }

  #changed() {
    this.#version += 1
    write(this.note, "")
    this.#show()
  }

  /** The steps, and the place of the one that is shown among them. */
  get #at() {
    const steps = [...this.#steps.keys()]
    const chosen = this.#chosen === null ? -1 : steps.indexOf(this.#chosen)
    return { steps, index: chosen < 0 ? steps.length - 1 : chosen }
  }

  #leaf(by) {
    const { steps, index } = this.#at
    const next = index + by
    this.#chosen = next === steps.length - 1 ? null : steps[next]
    this.#show()
  }

  #show() {
    const { steps, index } = this.#at
    const wasShown = this.isShown
    this.isShown = steps.length > 0 || this.note.textContent !== ""
    this.element.style.display = this.isShown ? "" : "none"
    if (this.isShown && !wasShown) this.onShown()
    for (const part of [this.back, this.heading, this.forth, this.grid]) {
      part.style.display = steps.length ? "" : "none"
    }
    if (!steps.length) {
      this.row.replaceChildren()
      return
    }
    this.back.disabled = index === 0
    this.forth.disabled = index === steps.length - 1
    write(this.heading, text("samplesAt", { step: steps[index] }))
    this.grid.href = this.#url(GRID)
    this.row.replaceChildren(...this.#steps.get(steps[index]).map((shown) => this.#thumb(shown)))
  }

  #thumb({ file, prompt }) {
    const image = /** @type {HTMLImageElement} */ (element("img"))
    image.src = `${this.#url(file)}&size=${THUMB}`
    image.alt = prompt
    image.draggable = false
    const made = link([image], prompt)
    made.href = this.#url(file)
    return made
  }

  #url(file) {
    return `${runUrl(this.#runId)}/samples/${encodeURIComponent(file)}?v=${this.#version}`
  }
}

/** A link that opens beside the graph. */
function link(children, hint) {
  const made = /** @type {HTMLAnchorElement} */ (element("a", "", children))
  made.target = "_blank"
  made.rel = "noopener"
  made.title = hint
  return made
}
