// Draws a run on a canvas: panes above each other that share the steps.

import { text } from "../texts.js"
import { makeScale, readable, roundStep } from "./scales.js"
import { PANES, shouldStopAt } from "./series.js"

const MARGIN = { left: 46, right: 8, top: 16, bottom: 18 }
const PANE_GAP = 18
const FONT = "10px sans-serif"
const GRID_ALPHA = 0.14

/**
 * @typedef {object} Picture what was drawn where, in CSS pixels
 * @property {number} left
 * @property {number} right
 * @property {number} top
 * @property {number} bottom
 * @property {number} firstStep
 * @property {number} lastStep
 * @property {{ series: object[], scale: object, top: number, bottom: number }[]} panes
 */

/**
 * Draw all shown series.
 * @param {CanvasRenderingContext2D} ctx scaled to CSS pixels
 * @param {{ width: number, height: number }} size in CSS pixels
 * @param {import("./run_data.js").RunData} run has at least one row
 * @param {import("./series.js").Series[]} series those to draw
 * @param {import("./colors.js").Theme} theme
 * @param {{ log: boolean }} options
 * @returns {Picture}
 */
export function drawChart(ctx, size, run, series, theme, { log }) {
  ctx.clearRect(0, 0, size.width, size.height)
  ctx.font = FONT
  const picture = layOut(size, run, series, log)
  for (const pane of picture.panes) drawPane(ctx, picture, pane, run, theme)
  drawSteps(ctx, picture, theme)
  drawMark(ctx, picture, shouldStopAt(run), theme)
  return picture
}

/** Where a step is, in CSS pixels from the left. */
export function placeOf(picture, step) {
  const share = (step - picture.firstStep) / (picture.lastStep - picture.firstStep)
  return picture.left + share * (picture.right - picture.left)
}

/** Which step is at a place. */
export function stepAt(picture, x) {
  const share = (x - picture.left) / (picture.right - picture.left)
  return picture.firstStep + share * (picture.lastStep - picture.firstStep)
}

/**
 * Draw the line at the step under the mouse, and a dot on each curve.
 * @param {CanvasRenderingContext2D} ctx of a canvas above the chart
 * @param {{ width: number, height: number }} size
 * @param {Picture} picture
 * @param {import("./run_data.js").RunData} run
 * @param {number} row
 * @param {import("./colors.js").Theme} theme
 */
export function drawCursor(ctx, size, picture, run, row, theme) {
  ctx.clearRect(0, 0, size.width, size.height)
  if (row < 0) return
  const x = placeOf(picture, run.steps[row])
  line(ctx, theme.muted, [[x, picture.top], [x, picture.bottom]])
  for (const { series, scale, top, bottom } of picture.panes) {
    for (const { values, color } of series) {
      if (values[row] === null) continue
      const y = bottom - scale.place(values[row]) * (bottom - top)
      dot(ctx, theme.curve(color), [x, within(y, top, bottom)])
    }
  }
}

function layOut(size, run, series, log) {
  const kinds = Object.keys(PANES).filter((kind) => series.some(({ pane }) => pane === kind))
  const top = MARGIN.top
  const bottom = size.height - MARGIN.bottom
  const shares = kinds.reduce((sum, kind) => sum + PANES[kind].share, 0)
  const room = bottom - top - PANE_GAP * (kinds.length - 1)
  let y = top
  const panes = kinds.map((kind) => {
    const height = (room * PANES[kind].share) / shares
    const drawn = series.filter(({ pane }) => pane === kind)
    const scale = makeScale(drawn.map(({ values }) => values), {
      log: (kind === "loss" && log) || kind === "norms",
      fixed: kind === "signals",
      fromZero: kind === "lr",
      spiky: kind === "loss" || kind === "norms",
      numTicks: Math.max(1, Math.min(4, Math.floor(height / 22))),
    })
    const pane = { title: text(PANES[kind].title), series: drawn, scale, top: y, bottom: y + height }
    y += height + PANE_GAP
    return pane
  })
  const firstStep = run.steps[0] > 1 ? run.steps[0] : 0
  const lastStep = Math.max(run.lastStep, firstStep + 1)
  return { left: MARGIN.left, right: size.width - MARGIN.right, top, bottom, firstStep, lastStep, panes }
}

function drawPane(ctx, picture, pane, run, theme) {
  const { left, right } = picture
  const { scale, top, bottom } = pane
  ctx.textBaseline = "middle"
  ctx.textAlign = "right"
  ctx.fillStyle = theme.muted
  for (const tick of scale.ticks) {
    const y = bottom - scale.place(tick) * (bottom - top)
    ctx.globalAlpha = GRID_ALPHA
    line(ctx, theme.text, [[left, y], [right, y]])
    ctx.globalAlpha = 1
    ctx.fillText(readable(tick), left - 5, y)
  }
  ctx.textAlign = "left"
  ctx.fillStyle = theme.text
  ctx.fillText(pane.title, left, top - 8)
  ctx.save()
  ctx.beginPath()
  ctx.rect(left, top - 1, right - left, bottom - top + 2)
  ctx.clip()
  for (const series of pane.series) drawCurve(ctx, picture, pane, run, series, theme)
  ctx.restore()
}

/** Draw one curve: the lowest and highest value of each pixel column, so that no spike is lost. */
function drawCurve(ctx, picture, pane, run, series, theme) {
  const height = pane.bottom - pane.top
  const y = (value) => pane.bottom - pane.scale.place(value) * height
  const path = []
  let column = null
  for (let row = 0; row < run.steps.length; row++) {
    const value = series.values[row]
    if (value === null) continue
    const x = placeOf(picture, run.steps[row])
    if (column && Math.floor(x) === column.pixel) {
      column.low = Math.min(column.low, value)
      column.high = Math.max(column.high, value)
    } else {
      if (column) path.push([column.x, y(column.low)], [column.x, y(column.high)])
      column = { pixel: Math.floor(x), x, low: value, high: value }
    }
  }
  if (column) path.push([column.x, y(column.low)], [column.x, y(column.high)])
  ctx.globalAlpha = series.faint ? 0.35 : 1
  if (path.length === 2) dot(ctx, theme.curve(series.color), path[0])
  line(ctx, theme.curve(series.color), path, series.faint ? 1 : 1.5)
  ctx.globalAlpha = 1
}

function drawSteps(ctx, picture, theme) {
  const { left, right, bottom, firstStep, lastStep } = picture
  const step = Math.max(1, roundStep((lastStep - firstStep) / Math.max(2, (right - left) / 70)))
  ctx.fillStyle = theme.muted
  ctx.textBaseline = "top"
  ctx.textAlign = "center"
  for (let tick = Math.ceil(firstStep / step) * step; tick <= lastStep; tick += step) {
    const x = placeOf(picture, tick)
    const label = String(tick)
    const half = ctx.measureText(label).width / 2
    ctx.fillText(label, within(x, left + half, right - half), bottom + 5)
  }
}

/** Mark the step at which the optimizer said the loss has settled. */
function drawMark(ctx, picture, step, theme) {
  if (step === null) return
  const x = placeOf(picture, step)
  ctx.setLineDash([4, 3])
  line(ctx, theme.alert, [[x, picture.top], [x, picture.bottom]])
  ctx.setLineDash([])
  ctx.fillStyle = theme.alert
  ctx.textBaseline = "bottom"
  ctx.textAlign = x > (picture.left + picture.right) / 2 ? "right" : "left"
  ctx.fillText("should_stop", x, picture.top - 2)
}

function line(ctx, color, points, width = 1) {
  ctx.strokeStyle = color
  ctx.lineWidth = width
  ctx.beginPath()
  points.forEach(([x, y], index) => (index ? ctx.lineTo(x, y) : ctx.moveTo(x, y)))
  ctx.stroke()
}

function dot(ctx, color, [x, y]) {
  ctx.fillStyle = color
  ctx.beginPath()
  ctx.arc(x, y, 3, 0, 2 * Math.PI)
  ctx.fill()
}

function within(value, low, high) {
  return Math.min(Math.max(value, low), high)
}
