//! The page in headless Chromium: nothing sticks out, nothing is fetched, everything can be read; pictures are left in
//! `target/status`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::TimeDelta;
use phobos_core::exec::{Exec, Invocation, System};
use phobos_site::history::Run;

use super::{Machine, golden, hostile};
use crate::page;

/// Of which pages pictures are left behind, and how wide they are.
const SHOTS: [(&str, u32); 3] = [("quiet", 1280), ("bad", 1280), ("bad", 390)];

/// The pictures in `docs/pictures`: of which page, how wide and high, in which colours. They end between two parts of the page.
const BOOK: [(&str, u32, u32, &str); 2] = [("quiet", 1280, 805, "light"), ("bad", 390, 1368, "dark")];

/// Looks at every element in the browser and says what is wrong with it. The page itself has no script.
const PROBE: &str = r#"<script>
const wrong = [];
const root = document.documentElement;
if (root.scrollWidth > innerWidth) wrong.push("the page is " + root.scrollWidth + " wide");
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length > 3 && n[3] === 0 ? null : n; };
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const back = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
let texts = 0;
for (const e of document.body.querySelectorAll("*")) {
  if (e.closest("svg")) continue;
  const box = e.getBoundingClientRect();
  if (box.width && (box.right > innerWidth + 1 || box.left < -1)) wrong.push(e.tagName + " sticks out: " + e.textContent.slice(0, 40));
  if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
  texts++;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(back(e))].sort((x, y) => y - x);
  const contrast = (a + 0.05) / (b + 0.05);
  if (contrast < 4.5) wrong.push(contrast.toFixed(2) + " is too little contrast: " + e.className + " " + e.textContent.slice(0, 40));
}
for (const e of document.querySelectorAll("svg"))
  if (e.getAttribute("aria-hidden") !== "true" && !(e.getAttribute("role") === "img" && e.getAttribute("aria-label"))) wrong.push("a picture without a text");
for (const e of document.querySelectorAll("rect"))
  if (!e.closest("[aria-hidden]") && !e.querySelector("title")) wrong.push("a bar without a title");
if (document.querySelector("script:not(:last-of-type), iframe, object, embed, img, link, a, form, [onload], [onerror], [onclick]")) wrong.push("an element that has no place here");
if (performance.getEntriesByType("resource").length) wrong.push("something was fetched");
if (getComputedStyle(document.body).backgroundColor === "rgba(0, 0, 0, 0)") wrong.push("the style was not taken");
const scheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
const said = innerWidth + " wide, " + scheme + ", " + texts + " texts; " + wrong.length + " wrong: " + wrong.slice(0, 12).join(" | ");
parent.postMessage(said, "*");
</script>"#;

/// Both widths in one window: one of Chromium's own is never narrower than 500 pixels.
const FRAMES: &str = r#"<!DOCTYPE html><title>nothing was said</title>
<script>const said = []; addEventListener("message", e => { said.push(e.data); document.title = said.sort().join(" // "); });</script>
<iframe src="probed.html" style="border: 0; height: 900px; width: 390px"></iframe>
<iframe src="probed.html" style="border: 0; height: 900px; width: 1280px"></iframe>"#;

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pictures").canonicalize().unwrap()
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/status")
}

/// Calls Chromium on a page, in a profile of its own.
fn chromium(page: &Path, profile: &Path, width: u32, is_dark: bool, args: &[String]) -> String {
    let scheme =
        if is_dark { "--blink-settings=preferredColorScheme=0" } else { "--blink-settings=preferredColorScheme=1" };

    let call = Invocation::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
        ])
        .args(["--host-resolver-rules=MAP * ~NOTFOUND", scheme])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},900"))
        .args(args)
        .arg(format!("file://{}", page.display()))
        .limit(Duration::from_secs(120));
    let finished = System::default().run(&call);
    let finished = finished.unwrap_or_else(|error| panic!("`cargo xtask setup` installs chromium: {error}"));
    String::from_utf8_lossy(&finished.stdout).into_owned()
}

/// Takes a picture of the upper part of a page.
fn picture(page: &Path, profile: &Path, (width, height): (u32, u32), is_dark: bool, to: &Path) {
    let args = [format!("--screenshot={}", to.display()), format!("--window-size={width},{height}")];
    chromium(page, profile, width, is_dark, &args);
    assert!(to.metadata().unwrap().len() > 10_000);
}

#[test]
fn in_a_browser_it_fits_fetches_nothing_and_can_be_read() {
    let folder = folder();
    std::fs::create_dir_all(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    let evil =
        "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)> ]]>--><style>*{display:none}</style>";
    let machines =
        [("quiet", Machine::quiet()), ("bad", Machine::bad()), ("empty", Machine::empty()), ("hostile", hostile(evil))];
    std::thread::scope(|scope| {
        for (name, machine) in &machines {
            let folder = &folder;
            scope.spawn(move || {
                let profile = tempfile::tempdir().unwrap();
                let html = page::draw(&machine.model());
                let (plain, probed) = (folder.join(format!("{name}.html")), profile.path().join("probed.html"));
                std::fs::write(&plain, &html).unwrap();
                // What probes is a script, which the page forbids.
                let free: String = html
                    .lines()
                    .filter(|line| !line.contains("Content-Security-Policy"))
                    .collect::<Vec<_>>()
                    .join("\n");
                std::fs::write(&probed, free.replace("</body>", &format!("{PROBE}</body>"))).unwrap();
                std::fs::write(profile.path().join("frames.html"), FRAMES).unwrap();
                let book = BOOK.iter().filter(|(of, ..)| of == name);
                let is_new = book.clone().count() > 0 && golden(&format!("{name}.html"), &html);
                for (is_dark, scheme) in [(false, "light"), (true, "dark")] {
                    let frames = profile.path().join("frames.html");
                    let dom = chromium(&frames, profile.path(), 1400, is_dark, &["--dump-dom".to_owned()]);
                    let title =
                        dom.split("<title>").nth(1).and_then(|rest| rest.split("</title>").next()).unwrap_or_default();
                    let said: Vec<&str> = title.split(" // ").collect();
                    assert_eq!(said.len(), 2, "{name}: {title}");
                    for (said, width) in said.iter().zip([1280, 390]) {
                        let is_right =
                            said.starts_with(&format!("{width} wide, {scheme}, ")) && said.ends_with("; 0 wrong: ");
                        assert!(is_right, "{name}, {width}, {scheme}: {title}");
                    }
                    for width in SHOTS.iter().filter(|(of, _)| of == name).map(|(_, width)| *width) {
                        let height = if width < 600 { 3200 } else { 2000 };
                        let shot = folder.join(format!("{name}-{width}-{scheme}.png"));
                        picture(&plain, profile.path(), (width, height), is_dark, &shot);
                    }
                    for (_, width, height, _) in book.clone().filter(|(.., of)| is_new && *of == scheme) {
                        let shot = pictures().join(format!("status-{name}-{width}.png"));
                        picture(&plain, profile.path(), (*width, *height), is_dark, &shot);
                    }
                }
            });
        }
    });
}

#[test]
fn ten_years_of_a_busy_house_are_a_small_page() {
    let size = |jobs: usize, every: i64, error: &str| {
        let mut machine = Machine::quiet();
        for number in 0..200_000 {
            let start = machine.now - TimeDelta::minutes(every * (200_000 - number));
            let (exit, error) = if error.is_empty() { (0, String::new()) } else { (1, error.to_owned()) };
            let object = format!("host{}", usize::try_from(number).unwrap() % jobs);
            machine.add(Run { exit, error, end: start + TimeDelta::minutes(9), ..Run::new("pull", &object, start) });
        }
        page::draw(&machine.model()).len()
    };
    for (jobs, every, error) in [(5, 26, ""), (30, 26, ""), (1000, 1, "<\u{1b}>".repeat(500).as_str())] {
        let size = size(jobs, every, error);
        assert!(size < 400_000, "{jobs} jobs, every {every} minutes: {size} bytes");
    }
}

#[test]
fn it_leads_nowhere() {
    for machine in [Machine::quiet(), Machine::bad(), Machine::empty()] {
        let html = page::draw(&machine.model());
        for word in ["http:", "https:", "//", "src=", "href=", "@import", "<script", "<img"] {
            assert!(!html.contains(word), "{word}");
        }
    }
}

#[test]
fn nothing_from_outside_is_markup() {
    for evil in
        ["<script>alert(1)</script>", "\"onload=alert(1) x=\"", "'/><img src=x>", "</style><b>", "\u{1b}[2J<!--"]
    {
        let html = page::draw(&hostile(evil).model());
        assert!(!html.contains(evil), "{evil}");
        assert!(html.chars().all(|c| c == '\n' || !c.is_control()));
        for word in ["<script", "<img", "<b>", "<!--", "onload=\"", "</style><"] {
            assert!(!html.contains(word), "{word} after {evil}");
        }
    }
}
