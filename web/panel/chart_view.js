// The chart as an element: canvases that fit it, series on and off, values under the mouse.

import { text } from "../texts.js"
import { drawChart, drawCursor, stepAt } from "./chart.js"
import { themeOf } from "./colors.js"
import { button, element, write } from "./element.js"
import { valueAt } from "./run_data.js"
import { readable } from "./scales.js"
import { seriesOf } from "./series.js"

/** Data arrives up to four times a second: a picture lives that long. */
const REDRAW_MS = 250

/** Pixels of the canvas for one of CSS: the graph is zoomed in, too. */
const SHARPNESS = 2

/** Shows one run at a time. */
export class ChartView {
  #run = null
  #series = []
  #picture = null
  #theme = null
  #row = -1
  #drawnAt = 0
  #timer = 0
  #chips = new Map()
  #isOpen = false

  /**
   * @param {HTMLElement} panel whose colours the chart takes
   * @param {import("./choices.js").Choices} choices series on and off, log scale
   */
  constructor(panel, choices) {
    this.panel = panel
    this.choices = choices
    this.canvas = element("canvas")
    this.cursor = element("canvas")
    this.idle = element("div", "trustopt-idle", [text("idle")])
    this.chart = element("div", "trustopt-chart", [this.canvas, this.cursor, this.idle])
    this.legend = element("div", "trustopt-row trustopt-legend")
    this.chart.addEventListener("pointermove", (event) => this.#onMove(event))
    this.chart.addEventListener("pointerleave", () => this.#point(-1))
    this.chart.addEventListener("pointerenter", () => this.redraw()) // another palette, perhaps
    this.resizing = new ResizeObserver(() => this.redraw())
  }

  /** Fit the canvases to the element from now on. */
  add() {
    this.resizing.observe(this.chart)
  }

  /** Show a run, or what it has recorded since. @param {import("./run_data.js").RunData} run */
  show(run) {
    this.#run = run
    const wait = this.#drawnAt + REDRAW_MS - performance.now()
    if (!this.#timer) this.#timer = setTimeout(() => this.redraw(), Math.max(0, wait))
  }

  /** Draw at once. */
  redraw() {
    clearTimeout(this.#timer)
    this.#timer = 0
    this.#drawnAt = performance.now()
    const run = this.#run
    this.idle.hidden = Boolean(run?.steps.length)
    this.idle.style.display = this.idle.hidden ? "none" : ""
    if (!run?.steps.length) this.#clear()
    if (!run?.steps.length || !this.chart.clientWidth) return
    this.#series = seriesOf(run)
    this.#theme = themeOf(this.panel)
    this.#updateLegend()
    const size = { width: this.chart.clientWidth, height: this.chart.clientHeight }
    const shown = this.#series.filter((series) => this.choices.isShown(series))
    const ctx = context(this.canvas, size)
    this.#picture = drawChart(ctx, size, run, shown, this.#theme, { log: this.choices.log })
    this.#point(this.#row)
  }

  /** Stop drawing. */
  remove() {
    clearTimeout(this.#timer)
    this.resizing.disconnect()
  }

  /** Take away what an earlier run left: a new one makes its first samples before its first step. */
  #clear() {
    this.#picture = null
    this.#series = []
    this.#row = -1
    this.#chips.clear()
    this.legend.replaceChildren()
    for (const canvas of [this.canvas, this.cursor]) canvas.width = 0
  }

  #onMove(event) {
    if (!this.#picture) return
    const box = this.chart.getBoundingClientRect() // as zoomed on the page
    const x = ((event.clientX - box.left) / box.width) * this.chart.clientWidth
    this.#point(this.#run.rowNear(stepAt(this.#picture, x)))
  }

  #point(row) {
    this.#row = row
    if (!this.#picture) return
    const size = { width: this.chart.clientWidth, height: this.chart.clientHeight }
    drawCursor(context(this.cursor, size), size, this.#picture, this.#run, row, this.#theme)
    const at = row < 0 ? this.#run.steps.length - 1 : row
    for (const { key, values } of this.#series) {
      const value = valueAt(values, at)
      write(this.#chips.get(key).value, value === null ? "" : ` ${readable(value)}`)
    }
    write(this.#chips.get("step").value, ` ${this.#run.steps[at]}`)
  }

  #updateLegend() {
    const keys = ["step", ...this.#series.map(({ key }) => key)]
    if (keys.join() !== [...this.#chips.keys()].join()) this.#buildLegend()
    for (const series of this.#series) {
      const chip = this.#chips.get(series.key)
      chip.dot.style.background = this.#theme.curve(series.color)
      chip.dot.style.opacity = series.faint ? 0.45 : 1
      const isShown = this.choices.isShown(series)
      chip.button.setAttribute("aria-pressed", String(isShown))
      chip.button.style.display = isShown || this.#isOpen ? "" : "none"
    }
    const numHidden = this.#series.filter((series) => !this.choices.isShown(series)).length
    this.more.style.display = numHidden ? "" : "none"
    write(this.more, this.#isOpen ? text("less") : text("more", { number: numHidden }))
    this.#chips.get("step").button.setAttribute("aria-pressed", String(this.choices.log))
  }

  #buildLegend() {
    this.#chips.clear()
    const toggleLog = () => this.#choose(() => this.choices.toggleLog())
    const value = element("span")
    const log = button([text("logScale")], text("logScaleHint"), toggleLog)
    this.#chips.set("step", { button: log, value })
    const step = element("span", "trustopt-step", [text("steps"), value])
    const chips = this.#series.map((series) => this.#chip(series))
    this.more = button([""], text("moreHint"), () => this.#toggleMore())
    this.legend.replaceChildren(step, log, ...chips, this.more)
  }

  #toggleMore() {
    this.#isOpen = !this.#isOpen
    this.redraw()
  }

  #chip(series) {
    const dot = element("span", "trustopt-dot")
    const value = element("span")
    const toggle = () => this.#choose(() => this.choices.toggle(series))
    const made = button([dot, series.label, value], series.key, toggle)
    this.#chips.set(series.key, { button: made, dot, value })
    return made
  }

  #choose(change) {
    change()
    this.redraw()
  }
}

/** A canvas's context in CSS pixels, its bitmap fitted to the element and cleared if it was not. */
function context(canvas, size) {
  const [width, height] = [size.width * SHARPNESS, size.height * SHARPNESS]
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height })
  const ctx = canvas.getContext("2d")
  ctx.setTransform(SHARPNESS, 0, 0, SHARPNESS, 0, 0)
  return ctx
}
