// An opened run: its chart, and what can be done with what it left behind.

import { ChartView } from "../panel/chart_view.js"
import { Choices } from "../panel/choices.js"
import { button, element, write } from "../panel/element.js"
import { RunData } from "../panel/run_data.js"
import { SampleStrip } from "../panel/samples.js"
import { ask } from "../server.js"
import { text } from "../texts.js"
import { loadLora, plot, recreate, resume } from "./actions.js"

/** What a user can do with a run; each says why it cannot be done, or "". */
const ACTIONS = [
  { key: "runPlot", act: plot, hindrance: () => "" },
  { key: "runLoad", act: loadLora, hindrance: whyNoLora },
  { key: "runResume", act: resume, hindrance: whyNoResume },
  { key: "runRecreate", act: recreate, hindrance: whyNoWorkflow },
]

/** @typedef {import("./browser.js").Run} Run */

/** The details of one run, as long as they are shown. */
export class RunDetails {
  #isFetching = false
  #isGone = false

  /** @param {Run} run */
  constructor(run) {
    this.run = run
    this.data = new RunData(run.run_id)
    const panel = element("div", "trustopt-panel")
    this.view = new ChartView(panel, new Choices())
    this.samples = new SampleStrip(() => {})
    this.samples.follow(run.run_id)
    panel.append(this.view.chart, this.view.legend, this.samples.element)
    this.problem = element("div", "trustopt-runs-note")
    this.problem.hidden = true
    this.buttons = ACTIONS.map(({ key, act }) => {
      const made = button([text(key)], text(`${key}Hint`), () => void this.#do(made, act))
      made.disabled = true // until it is known what is there
      return made
    })
    const actions = element("div", "trustopt-run-actions", this.buttons)
    this.element = element("div", "trustopt-run-details", [this.problem, panel, actions])
    this.view.add()
  }

  /** Ask for everything anew: the run ended, or its files changed. @param {Run} run */
  async refresh(run) {
    this.run = run
    await Promise.all([this.#fetchFiles(), this.#fetchData()])
  }

  /** Follow an event of the run. @param {object} event */
  onProgress(event) {
    if (this.data.append(event.columns)) void this.#fetchData() // events were missed
    this.view.show(this.data)
    if (event.samples) this.samples.add(event.samples)
  }

  /** The run is closed. */
  remove() {
    this.#isGone = true
    this.view.remove()
    this.element.remove()
  }

  async #fetchData() {
    if (this.#isFetching) return
    this.#isFetching = true
    const history = await ask(`runs/${encodeURIComponent(this.run.run_id)}`)
    this.#isFetching = false
    if (this.#isGone) return
    write(this.problem, history.problem ?? "")
    this.problem.hidden = !history.problem
    if (history.problem) return
    this.data.replace(history.columns)
    this.samples.replace(history.samples)
    this.view.show(this.data)
  }

  async #fetchFiles() {
    const files = await ask(`runs/${encodeURIComponent(this.run.run_id)}/files`)
    if (this.#isGone) return
    ACTIONS.forEach(({ key, hindrance }, i) => {
      const why = files.problem ?? hindrance(files, this.run)
      this.buttons[i].disabled = Boolean(why)
      this.buttons[i].title = why || text(`${key}Hint`)
    })
  }

  /** Do what a button says; not twice at once. */
  async #do(pressed, act) {
    pressed.disabled = true
    try {
      await act(this.run)
    } finally {
      pressed.disabled = false
    }
  }
}

function whyNoLora(files) {
  if (!files.lora) return text("runNoLora")
  return files.is_hidden ? text("runHidden") : ""
}

function whyNoResume(files, run) {
  if (run.status === "training") return text("runIsTraining")
  if (!files.resumes) return text("runNoState")
  if (files.resumes !== run.run_id) return text("runResumesOther", { run: files.resumes })
  return files.has_workflow || run.workflow ? "" : text("runNoWorkflow")
}

function whyNoWorkflow(files) {
  return files.has_workflow ? "" : text("runNoWorkflow")
}
