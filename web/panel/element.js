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

/**
 * Load a style sheet into the page, once.
 * @param {string} [file] relative to this one; the panel's if none is given
 */
export function loadStyle(file = "panel.css") {
  const href = new URL(file, import.meta.url).href
  if (document.head.querySelector(`link[href="${href}"]`)) return
  const link = document.createElement("link")
  link.rel = "stylesheet"
  link.href = href
  document.head.append(link)
}
