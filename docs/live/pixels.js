// From a drawing or a picture to the 28 x 28 numbers from 0 to 1 that the model takes, and back to the screen.
"use strict";
window.Live = window.Live || {};

(() => {
  const SIDE = 28, BOX = 20;
  Live.SIDE = SIDE;

  const luminance = (data) => Float32Array.from({length: data.length / 4}, (_, i) => {
    const [r, g, b] = [data[4 * i], data[4 * i + 1], data[4 * i + 2]];
    return (0.299 * r + 0.587 * g + 0.114 * b) / 255;
  });

  // The mean over each of the cells into which a part of a grey picture is cut: no aliasing, the same in every browser.
  function cells(grey, width, box, columns, rows) {
    const out = new Float32Array(columns * rows);
    const sx = box.width / columns, sy = box.height / rows;
    for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
      const x0 = box.x + column * sx, y0 = box.y + row * sy;
      let total = 0;
      for (let y = Math.floor(y0); y < y0 + sy - 1e-9; y++) for (let x = Math.floor(x0); x < x0 + sx - 1e-9; x++) {
        const part = (Math.min(x + 1, x0 + sx) - Math.max(x, x0)) * (Math.min(y + 1, y0 + sy) - Math.max(y, y0));
        total += part * grey[y * width + x];
      }
      out[row * columns + column] = total / (sx * sy);
    }
    return out;
  }

  const whole = (values) => values.map((value) => Math.round(value * 255) / 255);

  // As MNIST was made: what is drawn fills 20 x 20 pixels, and its centre of mass is in the middle. Null where nothing is drawn.
  function centred(grey, width, height) {
    let left = width, right = -1, top = height, bottom = -1;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (grey[y * width + x] > 0.1) {
      left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y);
    }
    if (right < 0) return null;
    const box = {x: left, y: top, width: right - left + 1, height: bottom - top + 1};
    const scale = BOX / Math.max(box.width, box.height);
    const columns = Math.max(1, Math.round(box.width * scale)), rows = Math.max(1, Math.round(box.height * scale));
    const small = cells(grey, width, box, columns, rows);
    let mass = 0, mx = 0, my = 0;
    small.forEach((value, i) => { mass += value; mx += value * (i % columns); my += value * Math.floor(i / columns); });
    const place = (centre, size) => Math.min(Math.max(Math.round((SIDE - 1) / 2 - centre), 0), SIDE - size);
    const x0 = place(mx / mass, columns), y0 = place(my / mass, rows);
    const out = new Float32Array(SIDE * SIDE);
    small.forEach((value, i) => { out[(y0 + Math.floor(i / columns)) * SIDE + x0 + (i % columns)] = value; });
    return whole(out);
  }

  function isBright(grey, width, height) {
    let total = 0, count = 0;
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
      if (x === 0 || y === 0 || x === width - 1 || y === height - 1) { total += grey[y * width + x]; count++; }
    }
    return total / count > 0.5;
  }

  Live.fromDrawing = (canvas) => {
    const {width, height} = canvas;
    return centred(luminance(canvas.getContext("2d").getImageData(0, 0, width, height).data), width, height);
  };

  // Of anything that a canvas can draw: an image, a bitmap, another canvas.
  Live.fromPicture = (image, width, height) => {
    const shrink = Math.min(1, 560 / Math.max(width, height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(width * shrink));
    canvas.height = Math.max(1, Math.round(height * shrink));
    const context = canvas.getContext("2d");
    context.fillStyle = "#fff"; // under what is transparent lies paper
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const grey = luminance(context.getImageData(0, 0, canvas.width, canvas.height).data);
    if (width === SIDE && height === SIDE) return whole(grey);
    const dark = isBright(grey, canvas.width, canvas.height) ? grey.map((value) => 1 - value) : grey;
    return centred(dark, canvas.width, canvas.height);
  };

  // Values from 0 to 1 as grey pixels; what is no number is shown as red.
  Live.paint = (canvas, values) => {
    const context = canvas.getContext("2d"), picture = context.createImageData(SIDE, SIDE);
    values.forEach((value, i) => {
      const level = Math.round(255 * Math.min(Math.max(value, 0), 1));
      picture.data.set(Number.isFinite(value) ? [level, level, level, 255] : [200, 0, 0, 255], 4 * i);
    });
    context.putImageData(picture, 0, 0);
  };
})();
