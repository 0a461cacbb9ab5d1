// The live panel of one Train LoRA node: where the run stands, its chart, wishes to it.

import { api } from "../comfy.js"
import { text } from "../texts.js"
import { ChartView } from "./chart_view.js"
import { Choices } from "./choices.js"
import { button, element, write } from "./element.js"
import { RunData } from "./run_data.js"
import { statusLine } from "./status.js"
import { forwardToCanvas } from "./to_canvas.js"

const MIN_HEIGHT = 340

/** Wishes a run can be asked for, by the route that asks; each with what is said until it is. */
const WISHES = { stop: "stopping", save: "saving", sample: "sampling" }

/** One panel. */
export class Panel {
  #run = null
  #state = null
  #asked = new Set()
  #isFetching = false

  /** @param {object} node a new node of type TrustOpt_TrainLora */
  constructor(node) {
    this.status = element("div", "trustopt-status")
    this.bar = element("div")
    this.element = element("div", "trustopt-panel")
    this.view = new ChartView(this.element, new Choices())
    this.buttons = Object.fromEntries(Object.keys(WISHES).map((wish) => [wish, this.#button(wish)]))
    this.element.append(
      this.status,
      element("div", "trustopt-bar", [this.bar]),
      this.view.chart,
      this.view.legend,
      element("div", "trustopt-row trustopt-wishes", Object.values(this.buttons)),
    )
    const options = { serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT }
    forwardToCanvas(this.element)
    this.widget = node.addDOMWidget("live_panel", "TRUSTOPT_PANEL", this.element, options)
    this.widget.serialize = false // the option alone still saves an empty value
    this.#update(null)
  }

  /** Id of the run shown. @returns {string | null} */
  get runId() {
    return this.#run?.id ?? null
  }

  /** Follow an event of the server. @param {object} event see nodes/live.py */
  onProgress(event) {
    const run = this.#follow(event.run_id)
    const isGap = run.append(event.columns)
    if (isGap) void this.restore(run.id)
    this.#state = event
    this.#update(event)
    this.view.show(run)
  }

  /** Show what is done before the first step. @param {string} stage "encoding images 3/20" */
  onStage(stage) {
    this.#asked.clear()
    write(this.status, stage)
    this.bar.style.width = "0"
  }

  /** Fetch all that a run has recorded: the page was loaded anew, or events were missed. */
  async restore(runId) {
    if (this.#isFetching) return
    this.#isFetching = true
    try {
      const response = await api.fetchApi(`/trustopt/runs/${encodeURIComponent(runId)}`)
      if (!response.ok) return
      const history = await response.json()
      const run = this.#follow(runId)
      run.replace(history.columns)
      // Events know more, and may have come while the history was on its way.
      if (this.#state?.run_id !== runId) {
        this.#update({ ...history, step: run.lastStep, lora: history.result?.lora })
      }
      this.view.show(run)
    } finally {
      this.#isFetching = false
    }
  }

  /** Watch the element's size: the node is in a graph. */
  add() {
    this.view.add()
  }

  /** Free what the page would keep: the node left its graph. */
  remove() {
    this.view.remove()
  }

  #follow(runId) {
    if (this.#run?.id !== runId) {
      this.#run = new RunData(runId)
      this.#asked.clear()
    }
    return this.#run
  }

  #button(wish) {
    return button([text(wish)], text(`${wish}Hint`), () => void this.#ask(wish))
  }

  async #ask(wish) {
    const run = encodeURIComponent(this.#run.id)
    const response = await api.fetchApi(`/trustopt/runs/${run}/${wish}`, { method: "POST" })
    if (!response.ok) return
    this.#asked.add(wish)
    write(this.status, text(WISHES[wish]))
    if (wish !== "save") this.buttons[wish].disabled = true
  }

  /** Show where a run stands; null before the first. */
  #update(state) {
    const isTraining = state?.status === "training"
    if (!isTraining) this.#asked.clear()
    this.buttons.stop.disabled = !isTraining || this.#asked.has("stop")
    this.buttons.save.disabled = !isTraining
    this.buttons.sample.disabled = !isTraining
    this.buttons.sample.style.display = state?.can_sample ? "" : "none"
    const share = state?.steps ? state.step / state.steps : 0
    this.bar.style.width = `${100 * share}%`
    const wish = this.#asked.has("stop") ? text(WISHES.stop) : ""
    write(this.status, state ? statusLine(state, wish) : "")
  }
}
