// One run in the list: what it is, its newest pictures, and, opened, its details.

import { button, element, write } from "../panel/element.js"
import { runUrl } from "../server.js"
import { RunDetails } from "./details.js"
import { dateOf, originLine, progressLine } from "./wording.js"

/** Pixels on each side of a small picture as the server makes it, twice those on the page. */
const SIZE = 144

/** @typedef {import("./browser.js").Run} Run */

/** One run. */
export class RunCard {
  /** @type {RunDetails | null} */
  #details = null
  /** What decides which buttons can be pressed, as last listed. */
  #listed = ""

  /**
   * @param {Run} run
   * @param {() => void} onToggle called when the user opens or closes it
   */
  constructor(run, onToggle) {
    this.name = element("span", "trustopt-run-name", [run.run_id])
    this.date = element("span", "trustopt-run-date")
    this.progress = element("span", "trustopt-run-line")
    this.origin = element("span", "trustopt-run-line trustopt-run-origin")
    this.bar = element("div")
    this.head = button(
      [element("span", "trustopt-run-top", [this.name, this.date]), this.progress, this.origin],
      run.run_id,
      onToggle,
    )
    this.head.className = "trustopt-run-head"
    this.pictures = element("div", "trustopt-run-pictures")
    this.element = element("div", "trustopt-run", [
      this.head,
      element("div", "trustopt-run-bar", [this.bar]),
      this.pictures,
    ])
    this.update(run)
  }

  /** Whether the details are shown. */
  get isOpen() {
    return this.#details !== null
  }

  /** Show a run as the server lists it now. @param {Run} run */
  update(run) {
    this.run = run
    this.#write()
    this.#showPictures()
    const listed = `${run.status} ${run.lora}`
    if (listed !== this.#listed) void this.#details?.refresh(run)
    this.#listed = listed
  }

  /** Follow an event of the run. @param {Run} run @param {object} event */
  onProgress(run, event) {
    this.run = run
    this.#write()
    this.#details?.onProgress(event)
  }

  /** Show the details. */
  open() {
    this.#details = new RunDetails(this.run)
    this.element.append(this.#details.element)
    this.#write()
    void this.#details.refresh(this.run)
  }

  /** Hide the details. */
  close() {
    this.#details?.remove()
    this.#details = null
    this.#write()
  }

  #write() {
    write(this.date, dateOf(this.run))
    write(this.progress, progressLine(this.run))
    write(this.origin, unbroken(originLine(this.run)))
    this.head.setAttribute("aria-expanded", String(this.isOpen))
    this.element.classList.toggle("trustopt-run-open", this.isOpen)
    this.element.dataset.status = this.run.status
    const { step, steps } = this.run
    this.bar.style.width = steps ? `${(100 * (step ?? 0)) / steps}%` : "0"
  }

  #showPictures() {
    const { run_id: id, samples = [], samples_time: version } = this.run
    const shown = [version, ...samples].join("/")
    if (shown === this.pictures.dataset.shown) return
    this.pictures.dataset.shown = shown
    const urls = samples.map((file) => `${runUrl(id)}/samples/${encodeURIComponent(file)}`)
    this.pictures.replaceChildren(...urls.map((url) => picture(`${url}?size=${SIZE}&v=${version}`)))
  }
}

/** A small picture; the details have the whole. */
function picture(url) {
  const image = /** @type {HTMLImageElement} */ (element("img"))
  Object.assign(image, { loading: "lazy", decoding: "async", alt: "", src: url })
  image.addEventListener("error", () => image.remove()) // gone since the run was listed
  return image
}

/** Let a line break after its dots only: "lora 32" stays together. */
function unbroken(line) {
  return line
    .split(" · ")
    .map((part) => part.replaceAll(" ", "\u00a0"))
    .join("\u00a0· ")
}
