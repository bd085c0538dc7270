// The visible texts whose contrast with what is behind them is below 4.5 to 1, WCAG 2 level AA.
() => {
  const context = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;

  /** The luminance of colours painted over each other. */
  function luminance(colours) {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) {
      context.fillStyle = colour;
      context.fillRect(0, 0, 1, 1);
    }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  }

  const found = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || element.closest("script, style, noscript")) continue;
    if (!element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const behind = [];
    for (let e = element; e; e = e.parentElement) behind.unshift(getComputedStyle(e).backgroundColor);
    const grounds = [behind];
    if (element.closest(".share")) { // a bar may be behind the text
      const bar = getComputedStyle(element.closest(".share")).getPropertyValue("--bar");
      grounds.push([...behind, resolved(bar)]);
    }
    for (const ground of grounds) {
      const pair = [luminance(ground), luminance([...ground, element.ownerSVGElement ? style.fill : style.color])];
      const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
      if (ratio < 4.5) found.add(`${element.tagName} ${element.getAttribute("class") ?? ""}: ${ratio.toFixed(2)}`);
    }
  }
  return [...found];

  /** A colour as the page shows it, such as of light-dark(). */
  function resolved(colour) {
    const probe = document.createElement("span");
    probe.style.color = colour;
    document.body.append(probe);
    const result = getComputedStyle(probe).color;
    probe.remove();
    return result;
  }
}
