//! The drives and their turns, how full everything is, and when it will be full.

use chrono::{DateTime, TimeDelta, Utc};
use phobos_core::human;

use super::html::Html;
use crate::model::{Drive, Model};
use crate::screen;

/// More of it in use than this part, and it is drawn as tight.
const TIGHT: u64 = 95;

/// The drawing of growth, in its own units.
const WIDTH: i64 = 1000;
const HEIGHT: i64 = 120;

/// The drives, whose turn it is first.
pub(super) fn drives(html: &mut Html, model: &Model) {
    if model.drives.is_empty() {
        return;
    }
    html.raw("<section>\n<h2>Off-site drives</h2>\n");
    let mut drives: Vec<&Drive> = model.drives.iter().collect();
    drives.sort_by_key(|drive| drive.turn);
    for drive in drives {
        html.raw("<div class=\"thing\">").element("h3", "", &format!("Drive {}", drive.name));
        let class = if drive.overdue { "warn-word" } else { "" };
        html.element("p", class, &screen::turn(drive, model));
        html.element("p", "soft", &screen::drive_words(drive, model));
        if let (Some(used), Some(free)) = (drive.used, drive.free) {
            let whole = used.saturating_add(free);
            let told = format!("{} of {} in use on {}", human::size(used), human::size(whole), drive.name);
            meter(html, used, whole, true, &told);
        }
        html.raw("</div>\n");
    }
    html.raw("</section>\n");
}

/// A bar that is filled by so much.
pub(super) fn meter(html: &mut Html, used: u64, whole: u64, may_be_tight: bool, told: &str) {
    let part = u128::from(used).saturating_mul(100).checked_div(u128::from(whole)).unwrap_or_default().min(100);
    let part = u64::try_from(part).unwrap_or(100);
    let class = if may_be_tight && part >= TIGHT { "tight" } else { "used" };
    html.raw("<svg class=\"meter\" viewBox=\"0 0 100 12\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"")
        .text(told);
    html.raw("\"><rect class=\"").raw(class).raw("\" width=\"").number(i64::try_from(part.max(1)).unwrap_or(100));
    html.raw("\" height=\"12\">").element("title", "", told).raw("</rect></svg>");
}

/// How the repository grows, by what was on the drives after each mirror, and when the backup disk is full.
pub(super) fn growth(html: &mut Html, model: &Model) {
    if model.room.is_none() && model.drives.iter().all(|drive| drive.grew.is_none()) {
        return;
    }
    html.raw("<section>\n<h2>Growth</h2>\n");
    if let Some(room) = model.room {
        let whole = room.used.saturating_add(room.free);
        let full = room
            .full_by
            .filter(|by| screen::is_near(*by, model))
            .map(|by| format!("; full by {}", model.zone.day(by, model.at)))
            .unwrap_or_default();
        let told = format!("{} of {} in use on the backup disk", human::size(room.used), human::size(whole));
        html.raw("<div class=\"thing\">").element("h3", "", "Backup disk");
        html.element("p", "soft", &format!("{} used, {} free{full}", human::size(room.used), human::size(room.free)));
        meter(html, room.used, whole, true, &told);
        html.raw("</div>\n");
    }
    for drive in &model.drives {
        if curve(html, drive, model).is_none() {
            html.element("p", "soft", &format!("Drive {}: growth is known after two visits.", drive.name));
        }
    }
    html.raw("</section>\n");
}

/// From the visit before the last one to when it is full.
fn curve(html: &mut Html, drive: &Drive, model: &Model) -> Option<()> {
    let (bytes, seconds) = drive.grew?;
    let (used, whole) = (drive.used?, drive.used?.saturating_add(drive.free?));
    let (last, full) = (drive.mirrored?, drive.full_by?);
    let first = last.checked_sub_signed(TimeDelta::try_seconds(seconds)?)?;
    let before = used.saturating_sub(bytes);
    let x = |time: DateTime<Utc>| {
        let span = full.signed_duration_since(first).num_seconds().max(1);
        time.signed_duration_since(first).num_seconds().saturating_mul(WIDTH).checked_div(span).unwrap_or_default()
    };
    let y = |used: u64| {
        let height = u128::from(used).saturating_mul(110).checked_div(u128::from(whole)).unwrap_or_default();
        HEIGHT.saturating_sub(i64::try_from(height).unwrap_or(HEIGHT))
    };
    let days = seconds.div_euclid(86_400).max(1);
    let is_near = screen::is_near(full, model);
    let by = if is_near {
        format!("full by {}", model.zone.day(full, model.at))
    } else {
        "not full within ten years".to_owned()
    };
    let told = format!("{} more in {days} days; {by}", human::size(bytes));
    html.raw("<div class=\"thing\">").element("h3", "", &format!("Drive {}", drive.name)).element("p", "soft", &told);
    if !is_near {
        html.raw("</div>\n");
        return Some(());
    }
    html.raw("<svg class=\"growth\" viewBox=\"0 0 1000 120\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"")
        .text(&told);
    html.raw("\"><line class=\"limit\" x1=\"0\" y1=\"10\" x2=\"1000\" y2=\"10\"/>");
    html.raw("<line class=\"row\" x1=\"0\" y1=\"119\" x2=\"1000\" y2=\"119\"/>");
    for (class, from, to) in [("curve", (first, before), (last, used)), ("curve ahead", (last, used), (full, whole))] {
        html.raw("<line class=\"").raw(class).raw("\" x1=\"").number(x(from.0)).raw("\" y1=\"").number(y(from.1));
        html.raw("\" x2=\"").number(x(to.0)).raw("\" y2=\"").number(y(to.1)).raw("\"/>");
    }
    html.raw("</svg><div class=\"ends\">");
    html.element("span", "", &model.zone.day(first, model.at));
    html.element("span", "", &format!("full at {}", human::size(whole)));
    html.element("span", "", &model.zone.day(full, model.at)).raw("</div></div>\n");
    Some(())
}
