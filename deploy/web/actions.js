// What may be asked of a job here: shown to who has a token for it, and asked once more before it is done.

import { h, show } from "./dom.js";
import { change, get, token } from "./api.js";

const VERBS = [
  ["pause", "Pause", "It gives its ranks back at the end of the epoch under way, and goes on where it was when it is resumed."],
  ["resume", "Resume", "It waits in the queue for ranks and goes on from its newest checkpoint."],
  ["checkpoint", "Checkpoint", "It writes a checkpoint at the end of the epoch under way."],
  ["cancel", "Cancel", "It ends. Its checkpoints stay, and it can be resumed from them."],
];

let caller = { token: null };  // Who the token is; asked for once.

async function whoami(signal) {
  if (caller.token !== token()) caller = { token: token(), ...await get("whoami", signal) };
  return caller;
}

export function actions(id, done) {
  const buttons = h("div", { class: "row" }), told = h("p", { class: "small", role: "status" });
  const element = h("section", { class: "row", "aria-label": "Change this job", hidden: true }, buttons, told);

  function ask(verb, title, what) {
    const now = h("input", { type: "checkbox", id: "now" });
    const no = h("button", { type: "button", onclick: () => dialog.close() }, "No, leave it");
    const yes = h("button", { type: "button", class: verb === "cancel" ? "danger" : "on", onclick: () => act(verb, now.checked, dialog) }, `${title} it`);
    const dialog = h("dialog", { class: "card stack", "aria-labelledby": "ask", onclose: () => { dialog.remove(); buttons.querySelector(`#verb-${verb}`)?.focus(); } },
      h("h2", { id: "ask", class: "inline" }, `${title} ${id}?`), h("p", {}, what), verb === "pause" ? h("label", { for: "now" }, now, "at once: the epoch under way is lost") : "", h("div", { class: "row" }, yes, no));
    element.append(dialog);
    dialog.showModal();
    no.focus();
  }

  async function act(verb, now, dialog) {
    dialog.close();
    told.className = "small quiet";
    told.textContent = `Asking to ${verb} …`;
    try {
      const job = await change(`jobs/${id}/${verb}${now ? "?now=true" : ""}`);
      told.textContent = verb === "checkpoint" ? "A checkpoint will be written at the end of this epoch." : `It is ${job.state.toLowerCase()} now.`;
    } catch (error) {
      told.className = "small fault";
      told.textContent = error.message;
    }
    done();
  }

  return {
    element,
    async update({ job, verbs }, signal) {
      const { may_change: may, role, owner } = await whoami(signal);
      const mine = may && (role === "admin" || owner === job.owner);
      element.hidden = !mine;
      const offered = mine ? VERBS.filter(([verb]) => verbs.includes(verb)) : [];
      show(buttons, offered.map(([verb]) => verb).join(), () => offered.map(([verb, title, what]) =>
        h("button", { type: "button", id: `verb-${verb}`, onclick: () => ask(verb, title, what) }, title)));
    },
  };
}
