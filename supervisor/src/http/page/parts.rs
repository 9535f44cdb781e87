//! The parts of the page, from top to bottom.

use std::time::Duration;

use void_api::{Reason, RunRecord, Status};

use super::Shown;
use super::html::Html;
use super::plots::{self, KINDS};
use crate::app::App;
use crate::http::state;
use crate::metrics::Sample;
use crate::settings::Snapshot;

/// Characters of a text that a cell shows; the whole stands in the record.
const CELL: usize = 48;
/// Characters of a run's id where there is little room.
const SHORT_ID: usize = 6;

/// The whole page.
pub(super) fn page(html: &mut Html, app: &App, shown: Option<Shown<'_>>) {
    let settings = app.settings.now();
    let now = app.metrics.sample();
    let samples = app.history.up_to(now.clone());
    let steps = plots::steps(&samples);
    html.raw(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>void-wasm</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\">\
         <link rel=\"icon\" href=\"/status.svg\"><link rel=\"stylesheet\" href=\"/status.css\">\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\
         <script src=\"/status.js\" defer></script></head><body>",
    );
    header(html, app);
    html.raw("<main id=\"live\">");
    tiles(html, app, &settings, now.ended.all());
    html.raw("<div class=\"two\"><section><h2>Runs a second</h2>");
    plots::rates(html, &steps);
    legend(html);
    html.raw("</section><section><h2>Latency of executed runs</h2>");
    plots::latency(html, &steps);
    html.raw(
        "<p class=\"legend\"><span class=\"half\">half of the runs</span><span class=\"most\">99 of 100</span></p></section></div>",
    );
    runs(html, shown);
    html.raw("<div class=\"two\"><section><h2>Outcomes since the start</h2>");
    outcomes(html, app, &now);
    html.raw("</section><section><h2>Run time since the start</h2>");
    plots::distribution(html, &now.between(None));
    html.raw("</section></div><div class=\"two\">");
    workers(html, app);
    layers(html, app, settings.settings.work.isolation);
    html.raw("</div></main><footer><p>The same for programs: <a href=\"/metrics\">metrics</a>, \
              <a href=\"/readyz\">readiness</a>, <a href=\"/openapi.json\">OpenAPI</a>. Times are UTC.</p></footer></body></html>");
}

fn header(html: &mut Html, app: &App) {
    html.raw("<header><h1><img src=\"/status.svg\" alt=\"\" width=\"28\" height=\"28\">void-wasm</h1><p class=\"version\">version ");
    html.text(env!("CARGO_PKG_VERSION")).raw(", up for ").text(lasting(app.history.age()));
    html.raw("</p><p id=\"connection\" class=\"state bad\" hidden>the service does not answer</p>");
    match state::not_ready(app) {
        None if app.settings.peek().settings.switches.freeze => {
            html.raw("<p id=\"state\" class=\"state held\">frozen: runs are accepted and not executed</p>")
        }
        None => html.raw("<p id=\"state\" class=\"state good\">ready</p>"),
        Some(problem) => html.raw("<p id=\"state\" class=\"state bad\">").text(&problem.detail).raw("</p>"),
    };
    html.raw("</header>");
}

fn tiles(html: &mut Html, app: &App, settings: &Snapshot, ended: u64) {
    let (switches, work) = (&settings.settings.switches, &settings.settings.work);
    let queued = app.slots.queued();
    let running = app.runs.len().saturating_sub(queued);
    html.raw("<dl class=\"tiles\">");
    tile(
        html,
        "executing",
        if switches.enabled { "on" } else { "off" },
        "the master switch",
        !switches.enabled,
    );
    tile(
        html,
        "freeze",
        if switches.freeze { "on" } else { "off" },
        "accept, do not execute",
        switches.freeze,
    );
    let share = format!("{} %", plots::number((switches.canary.get() * 1000.0).round() / 10.0));
    tile(html, "canary share", &share, "of runs execute", false);
    tile(html, "under way", &running.to_string(), &format!("of {} places", work.workers), false);
    let full = queued as u64 >= u64::from(work.queue_max) && queued > 0;
    tile(html, "queue", &queued.to_string(), &format!("room for {}", work.queue_max), full);
    tile(html, "runs ended", &grouped(ended), "since the start", false);
    html.raw("</dl>");
}

fn tile(html: &mut Html, name: &str, value: &str, note: &str, warns: bool) {
    html.raw(if warns { "<div class=\"tile warns\"><dt>" } else { "<div class=\"tile\"><dt>" }).text(name);
    html.raw("</dt><dd>").text(value).raw("</dd><dd class=\"note\">").text(note).raw("</dd></div>");
}

fn legend(html: &mut Html) {
    html.raw("<p class=\"legend\">");
    for (class, name, _) in KINDS {
        html.raw("<span class=\"").text(class).raw("\">").text(name).raw("</span>");
    }
    html.raw("</p>");
}

fn outcomes(html: &mut Html, app: &App, now: &Sample) {
    plots::shares(html, now.ended);
    html.raw("<table class=\"numbers\"><tbody>");
    for (class, name, count) in KINDS {
        html.raw("<tr><th scope=\"row\"><span class=\"swatch ").text(class).raw("\"></span>").text(name);
        html.raw("</th><td>").text(grouped(count(now.ended))).raw("</td></tr>");
    }
    for (limit, count) in app.metrics.limits_met().filter(|(_, count)| *count > 0) {
        html.raw("<tr class=\"sub\"><th scope=\"row\">at the limit ").text(limit).raw("</th><td>");
        html.text(grouped(count)).raw("</td></tr>");
    }
    html.raw("</tbody></table>");
}

fn runs(html: &mut Html, shown: Option<Shown<'_>>) {
    html.raw("<section id=\"runs\">");
    let Some(Shown { tenant, runs, linked }) = shown else {
        html.raw(
            "<h2>Latest runs</h2><p class=\"hint\">Runs are shown to the tenant whose they are.</p>\
             <form id=\"token\" hidden><label>Token <input type=\"password\" name=\"token\" autocomplete=\"off\" required></label>\
             <button>Show my runs</button></form></section>",
        );
        return;
    };
    html.raw("<h2>Latest runs of ").text(tenant).raw("</h2>");
    if runs.is_empty() {
        html.raw("<p class=\"hint\">None yet.</p></section>");
        return;
    }
    html.raw(
        "<div class=\"scroll\"><table class=\"runs\"><thead><tr><th>Time</th><th>Run</th><th>Entry</th><th>Status</th>\
         <th class=\"wide\">Mode</th><th>Result</th><th class=\"n\">CPU</th><th class=\"n\">Wall</th><th class=\"n wide\">Pages</th>\
         <th class=\"n wide\">Calls</th></tr></thead><tbody>",
    );
    // One that is damaged is left out here; its own route says so.
    runs.iter().filter_map(|run| run.record().ok()).for_each(|record| row(html, &record, linked));
    html.raw("</tbody></table></div></section>");
}

fn row(html: &mut Html, record: &RunRecord, linked: bool) {
    let created = record.created_at.to_string();
    html.raw("<tr><td><time datetime=\"").text(&created).raw("\">");
    html.text(created.get(11..19).unwrap_or_default()).raw("</time></td><td class=\"id\" title=\"");
    let id = record.run_id.to_string();
    html.text(&id).raw("\">");
    if linked {
        html.raw("<a href=\"/v1/runs/").text(&id).raw("\">");
    }
    // The end is enough to tell runs apart where there is little room.
    let (start, end) = id.split_at_checked(id.len().saturating_sub(SHORT_ID)).unwrap_or((&id, ""));
    html.raw("<span class=\"wide\">").text(start).raw("</span>").text(end);
    if linked {
        html.raw("</a>");
    }
    html.raw("</td><td class=\"entry\">").text(cut(&record.entry));
    if !record.labels.is_empty() {
        let labels: Vec<String> =
            record.labels.iter().take(4).map(|(key, value)| format!("{key}={value}")).collect();
        html.raw(" <span class=\"wide labels\">").text(cut(&labels.join(" "))).raw("</span>");
    }
    let class = match record.status {
        Status::Finished if !record.mode.executes() => "dry-run",
        status => status.as_str(),
    };
    html.raw("</td><td><span class=\"pill ").text(class).raw("\">");
    html.text(record.reason.map_or(class, Reason::as_str)).raw("</span></td><td class=\"wide\">");
    html.text(record.mode).raw("</td><td class=\"result\"");
    match (&record.result, &record.error) {
        (_, Some(error)) => html.raw(" title=\"").text(error).raw("\">").text(cut(error)),
        (Some(result), None) => html.raw(">").text(cut(result.get())),
        (None, None) => html.raw(">"),
    };
    let usage = record.usage;
    html.raw("</td><td class=\"n\">").text(usage.cpu_ms).raw(" ms</td><td class=\"n\">").text(usage.wall_ms);
    html.raw(" ms</td><td class=\"n wide\">")
        .text(usage.mem_pages)
        .raw("</td><td class=\"n wide\">")
        .text(usage.syscalls);
    html.raw("</td></tr>");
}

fn workers(html: &mut Html, app: &App) {
    html.raw(
        "<section><h2>Worker processes</h2><table class=\"numbers\"><thead><tr><th></th><th>at work</th><th>idle</th>\
         <th>started</th><th>crashed</th><th>by filter</th></tr></thead><tbody>",
    );
    for worker in app.metrics.workers() {
        html.raw("<tr><th scope=\"row\">").text(worker.role).raw("</th>");
        for count in [worker.busy, worker.idle]
            .map(|count| u64::try_from(count).unwrap_or(0))
            .into_iter()
            .chain([worker.starts])
        {
            html.raw("<td>").text(grouped(count)).raw("</td>");
        }
        for bad in [worker.crashed, worker.seccomp] {
            html.raw(if bad > 0 { "<td class=\"bad\">" } else { "<td>" }).text(grouped(bad)).raw("</td>");
        }
        html.raw("</tr>");
    }
    html.raw("</tbody></table></section>");
}

fn layers(html: &mut Html, app: &App, isolation: impl std::fmt::Display) {
    html.raw("<section><h2>Isolation: <code>").text(isolation).raw("</code></h2><ul class=\"layers\">");
    for name in app.layers.names() {
        html.raw("<li class=\"stands\">").text(name).raw("</li>");
    }
    for refused in app.layers.missing() {
        html.raw("<li class=\"missing\">")
            .text(refused.layer.name())
            .raw(": ")
            .text(cut(&refused.detail))
            .raw("</li>");
    }
    html.raw("</ul></section>");
}

/// A text fit for a cell: one line, and not long.
fn cut(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(CELL) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None if line.len() < text.len() => format!("{line}…"),
        None => line.to_owned(),
    }
}

/// `1234567` as `1 234 567`, with spaces that do not break.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// How long something lasts, in its two largest units.
fn lasting(age: Duration) -> String {
    let seconds = age.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_readable() {
        for (number, shown) in
            [(0, "0"), (999, "999"), (1000, "1\u{202f}000"), (1_234_567, "1\u{202f}234\u{202f}567")]
        {
            assert_eq!(grouped(number), shown);
        }
        for (seconds, shown) in [(59, "59 s"), (61, "1 min 1 s"), (3_720, "1 h 2 min"), (90_000, "1 d 1 h")] {
            assert_eq!(lasting(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn cells_hold_one_short_line() {
        assert_eq!(cut("a\nb"), "a…");
        assert_eq!(cut(&"ä".repeat(48)), "ä".repeat(48));
        assert_eq!(cut(&"ä".repeat(49)), format!("{}…", "ä".repeat(48)));
    }
}
