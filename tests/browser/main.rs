//! The page in a real browser: Chromium, driven by `playwright-core`, before a real master whose workers really die.
//!
//! | What is shown | Where |
//! | --- | --- |
//! | every page in every state, light and dark, from 320 to 1920 pixels wide: axe finds nothing, nothing is wider than the window, the console is silent, no request goes elsewhere | `every_page.mjs` |
//! | the same pages without a script, and by the keyboard alone | `without_script.mjs`, `keyboard.mjs` |
//! | numbers that change by themselves while they are seen; one stream for each tab that is seen; polling where there is no stream; the way back | `live.mjs` |
//! | ids, payloads, errors, outputs and names of queues that are made to do harm | `hostile.mjs` |
//! | people who log in | `people.mjs` |
//! | the pictures of the README | `pictures.mjs`, `ASYNCTASK_RENEW=1` writes them |
//!
//! Tools: see `tools`. Pictures of what was seen lie in `tmp/browser-pictures` of the target folder.

#[path = "../support/mod.rs"]
mod support;

mod scenes;
mod stage;
mod tools;

use stage::Stage;
use support::{Place, foreign::Foreign};
use tools::tools;

#[test]
fn every_page_of_a_busy_master_and_of_one_that_was_killed() {
    let Some(tools) = tools() else { return };
    let demo = scenes::demo();
    let stage = Stage::open(&demo);
    stage.play(tools, "every_page.mjs", &[("STATE", "never")]);
    let master = scenes::busy(&stage);
    stage.play(tools, "every_page.mjs", &[("STATE", "busy")]);
    scenes::kill(master);
    stage.play(tools, "every_page.mjs", &[("STATE", "dead")]);
    stage.end();
}

#[test]
fn without_a_script_and_by_the_keyboard_alone() {
    let Some(tools) = tools() else { return };
    let demo = scenes::demo();
    let stage = Stage::open(&demo);
    let master = scenes::busy(&stage);
    stage.play(tools, "without_script.mjs", &[]);
    stage.play(tools, "keyboard.mjs", &[]);
    scenes::kill(master);
    stage.end();
}

#[test]
fn numbers_move_while_they_are_seen() {
    let Some(tools) = tools() else { return };
    let settings = "
kinds: { shop: { command: [python3, worker.py] } }
workers:
  mail: { worker: shop, processes: 2 }
  thumbnails: { worker: shop, retry: { max_attempts: 1 } }
";
    let demo = scenes::with_settings(&Place::sqlite(), settings);
    let stage = Stage::open(&demo);
    // The scenario ends it.
    let _master = demo.start_configured(&[]);
    stage.play(tools, "live.mjs", &[]);
    stage.end();
}

/// On a broker, where others name queues as they like.
#[test]
fn what_is_made_to_do_harm_stays_text() {
    let Some(tools) = tools() else { return };
    let Some(place) = Place::amqp() else { return };
    let queue = "<img src=x onerror=alert(1)>\"'/..?a=b#c \u{202e}&amp; -rf";
    let quoted = serde_json::to_string(queue).expect("JSON");
    let settings = format!(
        "kinds: {{ shop: {{ command: [python3, worker.py] }} }}\nworkers: {{ {quoted}: {{ worker: shop, processes: 2 }} }}\n"
    );
    let demo = scenes::with_settings(&place, &settings);
    Foreign::connect(&demo.uri).declare(queue, &[]);
    let stage = Stage::open(&demo);
    let master = demo.start_configured(&[]);
    stage.hears();
    stage.play(tools, "hostile.mjs", &[("HOSTILE_QUEUE", queue)]);
    scenes::kill(master);
    stage.end();
}

#[test]
fn people_log_in_and_leave_nothing_behind() {
    let Some(tools) = tools() else { return };
    let demo = scenes::demo();
    let hash = demo.feed(&["dashboard", "password"], "correct horse\n").stdout;
    let users = format!("dashboard.users={{otto: {{ password: \"{}\", role: look }}}}", hash.trim());
    let stage = Stage::open_with(&demo, &["--set", &users]);
    stage.play(tools, "people.mjs", &[]);
    stage.end();
}

#[test]
fn the_pictures_of_the_readme_are_of_what_is_shown() {
    let Some(tools) = tools() else { return };
    let demo = scenes::plain_demo();
    let stage = Stage::open(&demo);
    let master = scenes::busy(&stage);
    stage.play(tools, "pictures.mjs", &[("BROWSER_PICTURES", stage::pictures_of_readme().to_str().expect("text"))]);
    scenes::kill(master);
    stage.end();
}
