// The live panel of one Train LoRA node: where the run stands, its chart, wishes to it.

import { ask, post } from "../server.js"
import { text } from "../texts.js"
import { toast } from "../toast.js"
import { ChartView } from "./chart_view.js"
import { Choices } from "./choices.js"
import { button, element, write } from "./element.js"
import { RunData } from "./run_data.js"
import { SampleStrip } from "./samples.js"
import { stageLine, statusLine } from "./status.js"
import { forwardToCanvas } from "./to_canvas.js"

const MIN_HEIGHT = 340

/** More of it while there are sample pictures: a line and a row of them. */
const SAMPLES_HEIGHT = 120

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
    this.node = node
    this.status = element("div", "trustopt-status")
    this.bar = element("div")
    this.element = element("div", "trustopt-panel")
    this.view = new ChartView(this.element, new Choices())
    this.samples = new SampleStrip(() => this.#makeRoom())
    this.buttons = Object.fromEntries(Object.keys(WISHES).map((wish) => [wish, this.#button(wish)]))
    this.element.append(
      this.status,
      element("div", "trustopt-bar", [this.bar]),
      this.view.chart,
      this.view.legend,
      this.samples.element,
      element("div", "trustopt-row trustopt-wishes", Object.values(this.buttons)),
    )
    const getMinHeight = () => MIN_HEIGHT + (this.samples.isShown ? SAMPLES_HEIGHT : 0)
    const options = { serialize: false, hideOnZoom: false, getMinHeight }
    forwardToCanvas(this.element)
    this.widget = node.addDOMWidget("live_panel", "TRUSTOPT_PANEL", this.element, options)
    this.widget.serialize = false // the option alone still saves an empty value
    this.#update(null)
  }

  /** Follow an event of the server. @param {object} event see nodes/live.py */
  onProgress(event) {
    const run = this.#follow(event.run_id)
    const isGap = run.append(event.columns)
    if (isGap) void this.restore(run.id)
    this.#onSamples(event)
    this.#state = event
    this.#update(event)
    this.view.show(run)
  }

  /** Show what is done before the first step. @param {object} event see nodes/live.py */
  onStage(event) {
    this.#asked.clear()
    write(this.status, stageLine(event))
    this.bar.style.width = "0"
  }

  /** Fetch all that a run has recorded: the page was loaded anew, or events were missed. */
  async restore(runId) {
    if (this.#isFetching) return
    this.#isFetching = true
    const history = await ask(`runs/${encodeURIComponent(runId)}`)
    this.#isFetching = false
    const isOther = this.#state !== null && this.#state.run_id !== runId
    if (history.problem || isOther) return // a newer run began while the answer was on its way
    const run = this.#follow(runId)
    run.replace(history.columns)
    this.samples.replace(history.samples)
    // Events know more than a history does, unless the run ended unheard.
    if (!this.#state || history.status !== "training") {
      this.#update({ ...history, step: run.lastStep, lora: history.result?.lora })
    }
    this.view.show(run)
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
      this.samples.follow(runId)
    }
    return this.#run
  }

  /** Let the node grow by what its panel has grown; it never shrinks what the user enlarged. */
  #makeRoom() {
    const [width, height] = this.node.size
    const [, needed] = this.node.computeSize()
    if (needed > height) this.node.setSize([width, needed])
  }

  #onSamples({ step, samples, sample_problem: problem }) {
    if (!samples && !problem) return
    this.#asked.delete("sample")
    if (samples) {
      this.samples.add(samples)
      return
    }
    const detail = text("samplesFailedAt", { step, problem })
    this.samples.fail(detail)
    toast("warn", text("samplesFailed"), detail)
  }

  #button(wish) {
    return button([text(wish)], text(`${wish}Hint`), () => void this.#ask(wish))
  }

  async #ask(wish) {
    const { problem } = await post(`runs/${encodeURIComponent(this.#run.id)}/${wish}`)
    if (problem) {
      toast("warn", text(wish), problem)
      return
    }
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
    this.buttons.sample.disabled = !isTraining || this.#asked.has("sample")
    this.buttons.sample.style.display = state?.can_sample ? "" : "none"
    const share = state?.steps ? state.step / state.steps : 0
    this.bar.style.width = `${100 * share}%`
    const wish = ["stop", "sample"].find((asked) => this.#asked.has(asked))
    write(this.status, state ? statusLine(state, wish && text(WISHES[wish])) : "")
  }
}
