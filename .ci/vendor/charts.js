// What the page of `scrapy dedup report` uses of Observable Plot.
export {plot, rectY, barX, areaY, lineY, ruleX, ruleY, text, dot, axisX, axisY, gridY, stackX, stackY} from "@observablehq/plot";
