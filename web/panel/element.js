// Small helpers to build the panel's elements; texts are never parsed as HTML.

/**
 * Make an element.
 * @param {string} tag
 * @param {string} className
 * @param {(Node | string)[]} children
 * @returns {HTMLElement}
 */
export function element(tag, className = "", children = []) {
  const made = document.createElement(tag)
  made.className = className
  made.append(...children)
  return made
}

/**
 * Make a button.
 * @param {(Node | string)[]} children
 * @param {string} hint shown while the mouse rests on it
 * @param {(event: MouseEvent) => void} onClick
 * @returns {HTMLButtonElement}
 */
export function button(children, hint, onClick) {
  const made = /** @type {HTMLButtonElement} */ (element("button", "", children))
  made.type = "button"
  made.title = hint
  made.addEventListener("click", onClick)
  return made
}

/** Write a text into an element if it is another one. */
export function write(target, content) {
  if (target.textContent !== content) target.textContent = content
}

const loaded = new Set()

/**
 * Load a style sheet into the page, once; no element of the page is touched.
 * @param {string} [file] relative to this one; the panel's if none is given
 */
export async function loadStyle(file = "panel.css") {
  const href = new URL(file, import.meta.url).href
  if (loaded.has(href)) return
  loaded.add(href)
  const sheet = new CSSStyleSheet()
  document.adoptedStyleSheets.push(sheet)
  const answer = await fetch(href)
  await sheet.replace(await answer.text())
}
