//! Curves over the last half hour, drawn as SVG by the server. Owns their scales; a curve has a hole where nothing is known.

use maud::{Markup, html};

use super::words::{grouped, rate};

/// Size of a curve's drawing, in its own units: it is scaled to where it stands.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;

/// A curve with its title, its largest value as the scale's top, and its words for who cannot see it.
pub(super) fn plot(title: &str, unit: &str, values: &[Option<f64>]) -> Markup {
    let known = || values.iter().flatten().copied();
    let top = known().fold(0.0, f64::max);
    let now = values.last().copied().flatten();
    let words = |value: f64| if unit.ends_with("/s") { rate(value) } else { grouped(value as u64) };
    html! {
        figure {
            figcaption {
                (title)
                @if let Some(now) = now { ": " strong { (words(now)) " " (unit) } ", at most " (words(top)) }
                @else if known().next().is_some() { ": unknown now, at most " (words(top)) " " (unit) }
                @else { ": nothing known yet" }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img"
                aria-label=(format!("{title} over the last half hour, at most {} {unit}", words(top))) {
                @for run in runs(values, top) {
                    polyline points=(run) fill="none" vector-effect="non-scaling-stroke" {}
                }
            }
            p.scale { span { "earlier, half an hour at most" } span { "now" } }
        }
    }
}

/// A small curve without words: what it shows stands beside it.
pub(super) fn sparkline(values: &[f64]) -> Markup {
    let values: Vec<Option<f64>> = values.iter().copied().map(Some).collect();
    let top = values.iter().flatten().copied().fold(0.0, f64::max);
    html! {
        svg.spark viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" aria-hidden="true" {
            @for run in runs(&values, top) {
                polyline points=(run) fill="none" vector-effect="non-scaling-stroke" {}
            }
        }
    }
}

/// The points of each run of known values. The newest stands at the right edge; a lone value is a dash.
fn runs(values: &[Option<f64>], top: f64) -> Vec<String> {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let scale = if top > 0.0 { (HEIGHT - 4.0) / top } else { 0.0 };
    let mut runs: Vec<String> = Vec::new();
    let mut in_run = false;
    for (at, value) in values.iter().enumerate() {
        let Some(value) = value else {
            in_run = false;
            continue;
        };
        let (x, y) = (at as f64 * step, HEIGHT - 2.0 - value * scale);
        match runs.last_mut().filter(|_| in_run) {
            Some(run) => run.push_str(&format!(" {x:.1},{y:.1}")),
            None => runs.push(format!("{:.1},{y:.1} {x:.1},{y:.1}", x - 1.0)),
        }
        in_run = true;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_fills_its_box_and_has_a_hole_where_nothing_is_known() {
        let drawn = runs(&[Some(0.0), Some(10.0), None, Some(5.0)], 10.0);
        assert_eq!(drawn, ["-1.0,118.0 0.0,118.0 200.0,2.0", "599.0,60.0 600.0,60.0"]);
        assert_eq!(runs(&[], 0.0), Vec::<String>::new());
        assert_eq!(runs(&[Some(0.0)], 0.0), ["-1.0,118.0 0.0,118.0"]);
    }

    #[test]
    fn words_say_what_the_curve_shows() {
        let drawn = plot("Stored", "rows/s", &[Some(1.0), Some(1234.0)]).into_string();
        assert!(drawn.contains("<strong>1,234 rows/s</strong>, at most 1,234"), "{drawn}");
        let away = plot("Backlog", "records", &[Some(7.0), None]).into_string();
        assert!(away.contains("unknown now, at most 7 records"), "{away}");
        assert!(plot("Stored", "rows/s", &[None]).into_string().contains("nothing known yet"));
    }
}
