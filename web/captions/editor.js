// The dialog in which the captions of a folder are written.

import { button, element, loadStyle, write } from "../panel/element.js"
import { ask, post } from "../server.js"
import { text } from "../texts.js"
import { CaptionList } from "./caption_list.js"
import { isComposing } from "./keys.js"
import { Row } from "./row.js"
import { Toolbar } from "./toolbar.js"

const STYLE = "../captions/captions.css"

/** Events that ComfyUI would take for the graph behind the dialog. */
const OWN_EVENTS = ["keydown", "keyup", "copy", "cut", "paste", "wheel"]

/** One open dialog. */
export class CaptionEditor {
  #list = new CaptionList([])
  /** @type {Row[]} */
  #rows = []
  /** @type {Row[]} */
  #shown = []
  /** @type {Row | null} */
  #lastPicked = null
  /** The text box that was used last. @type {HTMLElement | null} */
  #box = null
  #isSaving = false
  #isOpen = false

  /**
   * @param {object} options
   * @param {URLSearchParams} options.query parameters of GET /trustopt/captions
   * @param {string} options.trigger the node's trigger word
   * @param {() => void} options.onSaved called after captions were saved
   */
  constructor({ query, trigger, onSaved }) {
    this.query = query
    this.onSaved = onSaved
    this.counts = element("span", "trustopt-counts")
    this.notice = element("div", "trustopt-notice")
    this.notice.setAttribute("role", "status")
    this.status = element("span", "trustopt-status")
    this.status.setAttribute("role", "status")
    this.toolbar = new Toolbar(trigger, {
      filtered: () => this.#filter(),
      selected: (isOn) => this.#selectShown(isOn),
      edited: (edit) => this.#edit(edit),
    })
    this.rows = element("div", "trustopt-rows", [text("loading")])
    this.undo = button([text("undo")], text("undoHint"), () => this.#undo())
    this.save = button([text("saveCaptions")], text("saveCaptionsHint"), () => void this.#save())
    this.save.classList.add("trustopt-primary")
    this.footer = element("footer")
    this.dialog = this.#makeDialog()
  }

  /** Show the dialog and fetch the captions. */
  async open() {
    void loadStyle(STYLE)
    this.#showActions()
    // A modal dialog lies above the page by itself, wherever it hangs; it goes when it is closed.
    document.body.append(this.dialog)
    this.dialog.showModal()
    this.#isOpen = true
    window.addEventListener("beforeunload", this.#onUnload)
    const answer = await ask(`captions?${this.query}`)
    this.rows.replaceChildren()
    if (answer.problem) this.#tell(answer.problem)
    else this.#fill(answer)
    this.#update()
  }

  #makeDialog() {
    const dialog = /** @type {HTMLDialogElement} */ (element("dialog", "trustopt-captions"))
    const title = element("h2", "", [text("captionsOf", { folder: this.query.get("folder") })])
    const close = button(["✕"], text("close"), () => this.#close())
    close.setAttribute("aria-label", text("close"))
    dialog.setAttribute("aria-label", title.textContent)
    dialog.tabIndex = -1
    dialog.append(
      element("header", "", [title, this.counts, close]),
      this.notice,
      this.toolbar.element,
      this.rows,
      this.footer,
    )
    dialog.addEventListener("focusin", ({ target }) => {
      if (target.tagName === "TEXTAREA") this.#box = target
    })
    for (const name of OWN_EVENTS) dialog.addEventListener(name, (event) => event.stopPropagation())
    dialog.addEventListener("keydown", (event) => this.#onKey(event))
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault()
      this.#close()
    })
    // A browser may close a dialog against its will, at a second Escape for instance.
    dialog.addEventListener("close", () => this.#isOpen && dialog.showModal())
    return dialog
  }

  #fill({ folder, pictures, notice, resolution, is_planned: isPlanned, skipped }) {
    this.#list = new CaptionList(pictures)
    this.#rows = this.#list.pictures.map((picture) => new Row(picture, folder, this.#rowEvents()))
    this.rows.append(...this.#rows.map((row) => row.element), ...skippedFiles(skipped))
    for (const { box } of this.#rows) box.readOnly = Boolean(notice)
    this.toolbar.disabled = Boolean(notice)
    const hint = text(isPlanned ? "buckets" : "usualBuckets", { resolution })
    this.#tell(notice || hint)
    this.#filter()
    this.#rows[0]?.box.focus()
  }

  #rowEvents() {
    return {
      typed: (row, typed) => {
        this.#list.type(row.picture, typed)
        this.#update([row.picture])
      },
      left: () => this.#list.endTyping(),
      moved: (row, by) => this.#shown[this.#shown.indexOf(row) + by]?.box.focus(),
      picked: (row, event) => this.#pick(row, event),
      restored: (row, caption) => this.#update(this.#list.edit([row.picture], () => caption)),
    }
  }

  #onKey(event) {
    if (event.key === "Escape" && !isComposing(event)) {
      event.preventDefault()
      this.#close()
      return
    }
    if (!(event.ctrlKey || event.metaKey) || event.altKey) return
    const key = event.key.toLowerCase()
    const isText = ["TEXTAREA", "INPUT"].includes(event.target.tagName)
    if (key === "s") void this.#save()
    else if (key === "f") this.toolbar.search.focus()
    else if (key === "z" && !isText) this.#undo()
    else return
    event.preventDefault()
  }

  #filter() {
    const { filter, search } = this.toolbar
    const shown = new Set(this.#list.shown(filter.value, search.value))
    for (const row of this.#rows) row.element.hidden = !shown.has(row.picture)
    this.#shown = this.#rows.filter((row) => shown.has(row.picture))
    this.#update([])
  }

  #pick(row, event) {
    const [from, to] = [this.#lastPicked, row].map((end) => this.#shown.indexOf(end))
    const isRange = event.shiftKey && from >= 0
    const range = isRange ? this.#shown.slice(Math.min(from, to), Math.max(from, to) + 1) : [row]
    for (const picked of range) this.#select(picked, row.check.checked)
    this.#lastPicked = row
    this.#update([])
  }

  #selectShown(isOn) {
    for (const row of this.#shown) this.#select(row, isOn)
    this.#update([])
  }

  #select(row, isOn) {
    row.isSelected = isOn
    this.#list.selected[isOn ? "add" : "delete"](row.picture)
  }

  #edit(edit) {
    const targets = this.#list.targets(this.#shown.map((row) => row.picture))
    const changed = this.#list.edit(targets, (picture) => edit(picture.text))
    write(this.status, text("edited", { changed: changed.length, all: targets.length }))
    this.#update(changed)
  }

  #undo() {
    const changed = this.#list.undo()
    write(this.status, text("undone", { changed: changed.length }))
    this.#update(changed)
  }

  /** @returns {Promise<boolean>} whether everything is saved */
  async #save() {
    const changed = this.#list.changed
    if (this.#isSaving || !changed.length) return !changed.length
    this.#isSaving = true
    this.save.disabled = true
    write(this.status, text("savingCaptions"))
    const captions = changed.map((p) => ({ name: p.name, caption: p.text, before: p.caption }))
    const extension = this.query.get("caption_extension") ?? ".txt"
    const body = { folder: this.query.get("folder"), caption_extension: extension, captions }
    const answer = await post("captions", body)
    this.#isSaving = false
    this.#noteSaved(answer)
    return !this.#list.changed.length
  }

  #noteSaved(answer) {
    if (answer.problem) {
      this.#tell(text("nothingSaved"), answer.problem)
      write(this.status, "")
    } else {
      this.#list.noteSaved(answer)
      const failed = Object.keys(answer.problems).length
      const [first] = Object.values(answer.problems)
      if (failed) this.#tell(text("someNotSaved", { failed }), first.text)
      else this.#tell("")
      write(this.status, text("savedCaptions", { saved: Object.keys(answer.saved).length }))
      this.onSaved()
    }
    this.#update()
  }

  /** Close, but ask first if something is not saved. */
  #close() {
    const changed = this.#list.changed.length
    if (!changed) {
      this.#end()
      return
    }
    if (!this.save.isConnected) {
      this.#showActions() // the question is open: Escape takes it back
      return
    }
    const saveAll = async () => {
      this.#showActions()
      if (await this.#save()) this.#end()
    }
    const save = button([text("saveAndClose")], "", () => void saveAll())
    save.classList.add("trustopt-primary")
    this.footer.replaceChildren(
      element("span", "trustopt-status", [text("unsaved", { changed })]),
      save,
      button([text("discard")], "", () => this.#end()),
      button([text("goOn")], "", () => this.#showActions()),
    )
    save.focus()
  }

  #showActions() {
    const close = button([text("close")], "", () => this.#close())
    this.footer.replaceChildren(this.status, this.undo, this.save, close)
    this.#keepFocus()
  }

  /** A button that vanishes or is disabled takes the focus, and so the keys, out of the dialog. */
  #keepFocus() {
    const focused = document.activeElement
    const isHere = this.dialog.contains(focused) && !focused.disabled && focused.checkVisibility()
    if (!this.#isOpen || isHere) return
    const target = this.#box?.checkVisibility() ? this.#box : this.dialog
    target.focus()
  }

  #end() {
    this.#isOpen = false
    window.removeEventListener("beforeunload", this.#onUnload)
    this.dialog.close()
    this.dialog.remove()
  }

  #onUnload = (event) => {
    if (this.#list.changed.length) event.preventDefault()
  }

  /** Say something above the list; a detail makes it a warning. */
  #tell(message, detail = "") {
    this.notice.classList.toggle("trustopt-warning", Boolean(detail))
    write(this.notice, [message, detail].filter(Boolean).join(" "))
  }

  /** Show what changed; all pictures if none are given. */
  #update(pictures = this.#list.pictures) {
    const wanted = new Set(pictures)
    for (const row of this.#rows) if (wanted.has(row.picture)) row.update()
    const { selected, changed, canUndo } = this.#list
    const selectedShown = this.#shown.filter((row) => selected.has(row.picture)).length
    this.toolbar.update({ shown: this.#shown.length, selected: selected.size, selectedShown })
    this.undo.disabled = !canUndo
    this.save.disabled = !changed.length || this.#isSaving
    const missing = this.#list.shown("missing", "").length
    const duplicates = this.#list.shown("duplicates", "").length
    const counts = { all: this.#rows.length, missing, duplicates, changed: changed.length }
    write(this.counts, this.#rows.length ? text("counts", counts) : "")
    this.#keepFocus()
  }
}

/** What the folder holds besides its pictures, folded away. */
function skippedFiles(skipped) {
  if (!skipped.length) return []
  const lines = skipped.map(({ file, text: reason }) => element("div", "", [`${file}: ${reason}`]))
  const summary = element("summary", "", [text("skipped", { number: skipped.length })])
  return [element("details", "trustopt-skipped", [summary, ...lines])]
}
