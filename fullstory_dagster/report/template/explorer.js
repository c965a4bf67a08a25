"use strict";
// Texts reach the page by textContent only: what a visitor typed is never markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const LANE_PX = 30, LABEL_PX = 20, DOT_PX = 5;
  const sessions = JSON.parse(document.getElementById("sessions").textContent);
  const list = document.getElementById("list"), lanes = document.getElementById("lanes");
  const steps = document.getElementById("steps"), facts = document.getElementById("facts");
  const reasons = [...document.querySelectorAll("[data-reason]")];
  let shown = null;

  const element = (parent, name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    parent.append(made);
    return made;
  };
  const drawn = (parent, name, attributes) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    parent.append(made);
    return made;
  };
  const clock = (seconds) => {
    const whole = Math.round(seconds), pad = (number) => String(number).padStart(2, "0");
    const hours = Math.floor(whole / 3600);
    return (hours ? hours + ":" : "") + pad(Math.floor(whole / 60) % 60) + ":" + pad(whole % 60);
  };

  function showReason(reason) {
    for (const button of reasons) button.setAttribute("aria-pressed", String(button.dataset.reason === reason));
    list.replaceChildren();
    const chosen = sessions.filter((session) => session.reasons.includes(reason));
    const order = { longest: (one, other) => other.duration - one.duration };
    if (order[reason]) chosen.sort(order[reason]);
    for (const session of chosen) {
      const button = element(element(list, "li"), "button", session.start);
      button.type = "button";
      element(button, "small", `${clock(session.duration)} · ${session.pages} pages · score ${session.score}` +
        (session.converted ? " · converted" : ""));
      button.addEventListener("click", () => showSession(session, button));
    }
    if (chosen.length) list.querySelector("button").click();
    else { element(list, "li", "There is none in these weeks."); clear(); }
  }

  function clear() {
    shown = null;
    for (const part of [facts, lanes, steps]) part.replaceChildren();
  }

  function showSession(session, button) {
    clear();
    shown = session;
    for (const other of list.querySelectorAll("button")) other.setAttribute("aria-current", String(other === button));
    facts.textContent = [session.start, session.device, `${session.events} events`].filter(Boolean).join(" · ") + " ";
    if (session.replay) {
      const link = element(facts, "a", "Watch the replay in FullStory");
      link.href = session.replay;
      link.target = "_blank";
      link.rel = "noopener noreferrer";
    }
    session.steps.forEach(([at, , kind, what], number) => {
      const line = element(element(steps, "li"), "button", undefined, kind.replace(" ", "-"));
      line.type = "button";
      element(line, "span", clock(at), "when");
      element(line, "span", what, "what");
      line.addEventListener("click", () => mark(number));
    });
    const leftOut = session.events - session.steps.length;
    if (leftOut > 0) element(element(steps, "li"), "span", `${leftOut} more steps are in session_timeline.`, "left-out");
    draw(session);
  }

  function draw(session) {
    lanes.replaceChildren();
    const pages = [...new Set(session.steps.map(([, page]) => page))];
    const width = Math.max(lanes.clientWidth, 200), last = Math.max(...session.steps.map(([at]) => at), 1);
    const lane = LANE_PX + LABEL_PX, height = pages.length * lane + 20;
    const x = (at) => 10 + (at / last) * (width - 20);
    const picture = drawn(lanes, "svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Steps over time, a lane a page" });
    pages.forEach((page, number) => {
      const y = number * lane;
      drawn(picture, "text", { x: 2, y: y + 14 }).textContent = page.length > width / 8 ? page.slice(0, width / 8) + "…" : page;
      drawn(picture, "line", { x1: 0, x2: width, y1: y + LABEL_PX + LANE_PX / 2, y2: y + LABEL_PX + LANE_PX / 2 });
    });
    session.steps.forEach(([at, page, kind, what], number) => {
      const y = pages.indexOf(page) * lane + LABEL_PX + LANE_PX / 2;
      const dot = drawn(picture, "circle", { cx: x(at), cy: y, r: kind === "other" ? DOT_PX - 1 : DOT_PX, class: kind.replace(" ", "-"), "data-step": number });
      drawn(dot, "title", {}).textContent = `${clock(at)} ${what}`;
      dot.addEventListener("click", () => mark(number, true));
    });
    drawn(picture, "text", { x: 2, y: height - 4 }).textContent = "00:00";
    drawn(picture, "text", { x: width - 2, y: height - 4, "text-anchor": "end" }).textContent = clock(last);
  }

  function mark(number, isScrolled) {
    lanes.querySelectorAll("circle").forEach((dot, at) => dot.setAttribute("aria-current", String(at === number)));
    [...steps.querySelectorAll("button")].forEach((line, at) => {
      line.setAttribute("aria-current", String(at === number));
      // Not scrollIntoView, which would move the whole page on a phone.
      if (at === number && isScrolled) steps.scrollTop = line.offsetTop - steps.offsetTop - steps.clientHeight / 2;
    });
  }

  for (const button of reasons) button.addEventListener("click", () => showReason(button.dataset.reason));
  window.addEventListener("resize", () => shown && draw(shown));
  showReason("frustrating");
})();
