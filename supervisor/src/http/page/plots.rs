//! The plots: SVG for shapes, HTML for words, so that words keep their size on every screen.

use crate::metrics::{Ended, Sample};

use super::html::Html;

/// Width of a plot over time in its own units: one for each step.
pub(super) const WIDE: usize = crate::history::STEPS;
/// Height of every plot in its own units.
const HIGH: f64 = 100.0;

/// The kinds of end with their class and name, bottom up as they are stacked.
type Kind = (&'static str, &'static str, fn(Ended) -> u64);
pub(super) const KINDS: [Kind; 5] = [
    ("finished", "finished", |ended| ended.finished),
    ("dry-run", "dry run", |ended| ended.dry_run),
    ("frozen", "frozen", |ended| ended.frozen),
    ("cancelled", "cancelled", |ended| ended.cancelled),
    ("error", "error", |ended| ended.error),
];

/// One step of the time that is shown.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Ends of runs in a second, in the order of [`KINDS`].
    pub(super) rates: [f64; KINDS.len()],
    /// Wall time in milliseconds that half of the executed runs kept to, and 99 of 100; `None` where there were none.
    pub(super) latency: Option<(f64, f64)>,
}

/// What happened between samples, oldest first.
pub(super) fn steps(samples: &[(std::time::Instant, std::sync::Arc<Sample>)]) -> Vec<Step> {
    let pairs = samples.windows(2).map(|pair| {
        let ((then, before), (now, after)) = (&pair[0], &pair[1]);
        // The newest may be a moment old.
        let seconds = now.duration_since(*then).as_secs_f64().max(1.0);
        let ended = after.ended.since(before.ended);
        let counts = after.between(Some(before));
        Step {
            rates: KINDS.map(|(_, _, count)| count(ended) as f64 / seconds),
            latency: quantile(&counts, 0.5).zip(quantile(&counts, 0.99)),
        }
    });
    let steps: Vec<Step> = pairs.collect();
    steps[steps.len().saturating_sub(WIDE)..].to_vec()
}

/// The wall time that a share of the runs kept to, milliseconds, as evenly spread between the bounds of a count.
fn quantile(counts: &[u64], share: f64) -> Option<f64> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = share * all as f64;
    let (mut passed, mut lower) = (0.0, 0.0);
    for (count, upper) in counts.iter().zip(Sample::BOUNDS) {
        let count = *count as f64;
        if passed + count >= wanted && count > 0.0 {
            return Some(lower + (upper - lower) * (wanted - passed) / count);
        }
        passed += count;
        lower = *upper;
    }
    // Above all bounds: at least the last one.
    Some(lower)
}

/// The next of 1, 2, 5, 10, 20, … that is not below.
fn round_up(value: f64) -> f64 {
    let mut top = 1.0;
    for factor in [2.0, 2.5, 2.0].into_iter().cycle().take(60) {
        if top >= value {
            break;
        }
        top *= factor;
    }
    top
}

/// Ends of runs in a second, stacked.
pub(super) fn rates(html: &mut Html, steps: &[Step]) {
    let most = steps.iter().map(|step| step.rates.iter().sum::<f64>()).fold(0.0, f64::max);
    let top = round_up(most);
    let now: f64 = steps.last().map_or(0.0, |step| step.rates.iter().sum());
    begin(html, &[number(top), number(top / 2.0), "0".to_owned()]);
    html.raw("aria-label=\"Runs that ended, a second, over the last ten minutes; at most ")
        .text(number(most));
    html.raw(", now ").text(number(now)).raw("\">");
    grid(html);
    for (index, step) in steps.iter().enumerate() {
        let mut from = HIGH;
        for ((class, ..), rate) in KINDS.iter().zip(step.rates) {
            let high = rate / top * HIGH;
            if high > 0.0 {
                from -= high;
                let x = WIDE - steps.len() + index;
                html.raw("<rect class=\"")
                    .text(class)
                    .raw("\" x=\"")
                    .text(x)
                    .raw("\" y=\"")
                    .text(coordinate(from));
                html.raw("\" width=\"1.02\" height=\"").text(coordinate(high)).raw("\"/>");
            }
        }
    }
    end_of_time(html);
}

/// Decades of milliseconds that the plot of latency shows at most: from 0.01 ms to 100 s.
const DECADES: (f64, f64) = (-2.0, 5.0);

/// Wall time of executed runs: the half and the 99th of a hundred.
pub(super) fn latency(html: &mut Html, steps: &[Step]) {
    let known = || steps.iter().filter_map(|step| step.latency);
    let lowest = known().map(|(half, _)| half.log10()).fold(DECADES.1, f64::min).floor().max(DECADES.0);
    let highest = known().map(|(_, most)| most.log10()).fold(DECADES.0, f64::max).ceil().min(DECADES.1);
    let (low, high) = if lowest < highest { (lowest, highest) } else { (0.0, 2.0) };
    // So that the mark in the middle is a power of ten as well.
    let high = if (high - low) % 2.0 == 0.0 { high } else { high + 1.0 };
    let middle = f64::midpoint(low, high);
    begin(html, &[high, middle, low].map(|decade| milliseconds(10_f64.powf(decade))));
    html.raw(
        "aria-label=\"Wall time of executed runs over the last ten minutes, on a scale of powers of ten\">",
    );
    grid(html);
    for (class, of) in [("most", (|(_, most)| most) as fn((f64, f64)) -> f64), ("half", |(half, _)| half)] {
        let mut last = None;
        let (mut path, mut dots) = (String::new(), String::new());
        for (index, step) in steps.iter().enumerate() {
            let Some(latency) = step.latency else {
                last = None;
                continue;
            };
            let x = (WIDE - steps.len() + index) as f64 + 0.5;
            let y = HIGH * (1.0 - ((of(latency).log10() - low) / (high - low)).clamp(0.0, 1.0));
            let verb = if last.replace(x).is_none() { 'M' } else { 'L' };
            path.push_str(&format!("{verb}{} {}", coordinate(x), coordinate(y)));
            // A line of no length is a dot: also a lone step is seen.
            dots.push_str(&format!("M{} {}h0", coordinate(x), coordinate(y)));
        }
        html.raw("<path class=\"").text(class).raw("\" d=\"").text(path).raw("\"/>");
        html.raw("<path class=\"dots ").text(class).raw("\" d=\"").text(dots).raw("\"/>");
    }
    end_of_time(html);
}

/// How many runs took how long since the service began.
pub(super) fn distribution(html: &mut Html, counts: &[u64]) {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    html.raw("<ol class=\"columns\">");
    for (index, count) in counts.iter().enumerate() {
        let high = *count as f64 / most as f64 * HIGH;
        let (name, shown) = match Sample::BOUNDS.get(index) {
            Some(bound) => (format!("at most {}", milliseconds(*bound)), milliseconds(*bound)),
            None => ("more".to_owned(), "more".to_owned()),
        };
        html.raw("<li title=\"").text(&name).raw(": ").text(count).raw("\">");
        html.raw("<svg viewBox=\"0 0 1 100\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        html.raw("<rect class=\"finished\" x=\"0\" y=\"").text(coordinate(HIGH - high));
        html.raw("\" width=\"1\" height=\"").text(coordinate(high)).raw("\"/></svg>");
        // Each third has its name below; the others would run into it.
        html.raw(if index % 3 == 1 { "<span>" } else { "<span class=\"hidden\">" }).text(shown);
        html.raw("</span></li>");
    }
    html.raw("</ol>");
}

/// All ends since the service began as one bar.
pub(super) fn shares(html: &mut Html, ended: Ended) {
    let all = ended.all().max(1) as f64;
    html.raw(
        "<svg class=\"shares\" viewBox=\"0 0 100 1\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
    );
    let mut from = 0.0;
    for (class, _, count) in KINDS {
        let wide = count(ended) as f64 / all * 100.0;
        if wide > 0.0 {
            html.raw("<rect class=\"").text(class).raw("\" x=\"").text(coordinate(from));
            html.raw("\" y=\"0\" width=\"").text(coordinate(wide)).raw("\" height=\"1\"/>");
            from += wide;
        }
    }
    html.raw("</svg>");
}

fn begin(html: &mut Html, marks: &[String; 3]) {
    html.raw("<div class=\"plot\"><div class=\"marks\" aria-hidden=\"true\">");
    for mark in marks {
        html.raw("<span>").text(mark).raw("</span>");
    }
    html.raw("</div><svg viewBox=\"0 0 120 100\" preserveAspectRatio=\"none\" role=\"img\" ");
}

fn grid(html: &mut Html) {
    html.raw("<path class=\"grid\" d=\"M0 0H120M0 50H120M0 100H120\"/>");
}

fn end_of_time(html: &mut Html) {
    html.raw("</svg><div class=\"times\" aria-hidden=\"true\"><span>10 min ago</span><span>5 min</span><span>now</span></div></div>");
}

fn coordinate(value: f64) -> String {
    format!("{value:.2}")
}

/// A number for people.
pub(super) fn number(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

/// A time for people.
fn milliseconds(ms: f64) -> String {
    let short = |value: f64, unit: &str| {
        let text = if value >= 10.0 { format!("{value:.0}") } else { format!("{value:.2}") };
        let text = if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text
        };
        format!("{text} {unit}")
    };
    if ms >= 1000.0 { short(ms / 1000.0, "s") } else { short(ms, "ms") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_bounds_of_their_count() {
        let mut counts = vec![0; Sample::BOUNDS.len() + 1];
        assert_eq!(quantile(&counts, 0.5), None);
        // 100 runs between 1 and 2.5 ms.
        counts[5] = 100;
        assert_eq!(quantile(&counts, 0.5), Some(1.75));
        assert!((quantile(&counts, 0.99).unwrap() - 2.485).abs() < 1e-9);
        // As many above all bounds.
        *counts.last_mut().unwrap() = 100;
        assert_eq!(quantile(&counts, 0.99), Some(30_000.0));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        for (value, top) in [(0.0, 1.0), (1.0, 1.0), (1.1, 2.0), (3.0, 5.0), (7.0, 10.0), (4400.0, 5000.0)] {
            assert_eq!(round_up(value), top);
        }
        assert!(round_up(f64::INFINITY).is_finite());
    }

    #[test]
    fn times_are_short() {
        for (ms, text) in [
            (0.05, "0.05 ms"),
            (0.25, "0.25 ms"),
            (1.0, "1 ms"),
            (2.5, "2.5 ms"),
            (100.0, "100 ms"),
            (30_000.0, "30 s"),
        ] {
            assert_eq!(milliseconds(ms), text);
        }
    }
}
