// The list of runs: filtered, shown a page at a time, following the one that trains.

import { button, element, write } from "../panel/element.js"
import { ask } from "../server.js"
import { text } from "../texts.js"
import { RunCard } from "./card.js"
import { matches } from "./wording.js"

/** Runs shown at first, and added when the end of the list comes into view. */
const PAGE = 30

/** Events of a run's end come before its files are all written. */
const SETTLE_MS = 400

/** @typedef {Record<string, any>} Run a line of GET /trustopt/runs, see nodes/run_list.py */

/** The content of the tab; it lives as long as the page, shown or not. */
export class RunBrowser {
  /** @type {Run[]} */
  #runs = []
  /** By id. @type {Map<string, RunCard>} */
  #cards = new Map()
  #shown = PAGE
  #problem = ""
  #isVisible = false
  #timer = 0
  #asked = 0

  constructor() {
    this.count = element("span", "trustopt-runs-count")
    this.filter = /** @type {HTMLInputElement} */ (element("input", "trustopt-runs-filter"))
    Object.assign(this.filter, { type: "search", placeholder: text("runsFilter") })
    this.filter.setAttribute("aria-label", text("runsFilter"))
    this.filter.addEventListener("input", () => this.#onFilter())
    // The graph's shortcuts are not meant for what is typed here.
    this.filter.addEventListener("keydown", (event) => event.stopPropagation())
    const refresh = button([icon("pi-refresh")], text("runsRefresh"), () => void this.refresh())
    refresh.setAttribute("aria-label", text("runsRefresh"))
    this.note = element("div", "trustopt-runs-note")
    this.list = element("div", "trustopt-runs-list")
    this.more = button([text("runsMore")], "", () => this.#showMore())
    this.more.className = "trustopt-runs-more"
    const title = element("span", "trustopt-runs-title", [text("runs")])
    this.scroller = element("div", "trustopt-runs-scroller", [this.note, this.list, this.more])
    this.element = element("div", "trustopt-runs", [
      element("div", "trustopt-runs-bar", [title, this.count, refresh]),
      element("div", "trustopt-runs-bar", [this.filter]),
      this.scroller,
    ])
    this.watcher = new IntersectionObserver(
      (entries) => entries.some((entry) => entry.isIntersecting) && this.#showMore(),
      { root: this.scroller, rootMargin: "200px" },
    )
  }

  /** Show the list in the tab. @param {HTMLElement} container */
  show(container) {
    container.classList.add("trustopt-runs-tab")
    if (this.element.parentElement === container) return
    container.replaceChildren(this.element)
    this.#isVisible = true
    this.watcher.observe(this.more)
    void this.refresh()
  }

  /** The tab is closed: what is open in it is kept, but nothing is followed. */
  hide() {
    this.#isVisible = false
    clearTimeout(this.#timer)
    this.watcher.disconnect()
    this.element.remove()
  }

  /** Ask for the runs again. */
  async refresh() {
    const number = ++this.#asked
    const { runs = [], problem = "" } = await ask("runs")
    if (number !== this.#asked) return // a newer answer is on its way
    this.#problem = problem
    if (!problem) this.#runs = runs
    const known = new Set(this.#runs.map((run) => run.run_id))
    for (const [id, card] of this.#cards) {
      if (known.has(id)) continue
      card.close()
      this.#cards.delete(id)
    }
    this.#draw()
  }

  /** Ask for the runs again once what happened is on disk. */
  refreshSoon() {
    clearTimeout(this.#timer)
    if (this.#isVisible) this.#timer = setTimeout(() => void this.refresh(), SETTLE_MS)
  }

  /** Follow an event of the server. @param {object} event see nodes/live.py */
  onProgress(event) {
    if (!this.#isVisible || event.status === "preparing") return
    const run = this.#runs.find(({ run_id: id }) => id === event.run_id)
    if (run?.status !== event.status) this.refreshSoon() // other files, other buttons
    if (!run) return
    const { status, step, steps, smoothed } = event
    Object.assign(run, { status, step, steps, loss: smoothed ?? run.loss })
    this.#cards.get(run.run_id)?.onProgress(run, event)
  }

  #onFilter() {
    this.#shown = PAGE
    this.#draw()
    this.scroller.scrollTop = 0
  }

  #showMore() {
    this.#shown += PAGE
    this.#draw()
  }

  #draw() {
    const found = this.#runs.filter((run) => matches(run, this.filter.value))
    const isAll = found.length === this.#runs.length
    write(this.count, isAll ? `${found.length}` : `${found.length} / ${this.#runs.length}`)
    const empty = text(this.#runs.length ? "runsNoMatch" : "runsNone")
    write(this.note, this.#problem || (found.length ? "" : empty))
    this.note.hidden = !this.note.textContent
    this.more.hidden = found.length <= this.#shown
    const cards = found.slice(0, this.#shown).map((run) => this.#card(run))
    const isSame = cards.length === this.list.children.length
    if (isSame && cards.every((card, i) => card.element === this.list.children[i])) return
    // Elements that stay must not be moved: they would lose the focus, and the list its place.
    const wanted = new Set(cards.map((card) => card.element))
    for (const child of [...this.list.children]) if (!wanted.has(child)) child.remove()
    cards.forEach((card, i) => {
      const there = this.list.children[i]
      if (there !== card.element) this.list.insertBefore(card.element, there ?? null)
    })
  }

  #card(run) {
    const known = this.#cards.get(run.run_id)
    if (known) {
      known.update(run)
      return known
    }
    const card = new RunCard(run, () => this.#toggle(run.run_id))
    this.#cards.set(run.run_id, card)
    return card
  }

  /** Open one run, closing the one that was open: each has a chart to draw. */
  #toggle(id) {
    for (const [other, card] of this.#cards) if (other !== id) card.close()
    const card = this.#cards.get(id)
    if (card.isOpen) card.close()
    else card.open()
  }
}

/** One of the icons that come with the frontend. */
function icon(name) {
  return element("i", `pi ${name}`)
}
