//! Draws the figures of a report, as SVG.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;

use plotters::prelude::*;

use super::method::Method;
use super::store::Answers;
use super::summary::Summary;
use super::tune::Trial;
use crate::{Error, Result};

/// The width and height of a figure, in pixels.
const SIZE: (u32, u32) = (760, 420);

/// The width of the room at the right for the names of the series, in pixels.
const LEGEND_WIDTH: u32 = 180;

/// Draws the gains of `method` over `over` in ROUGE-L with their intervals: a point for each task, and a last one for
/// their mean. `None` if the two have not been compared.
///
/// # Errors
///
/// [`Error::Input`] if the figure cannot be drawn.
pub fn gains(summary: &Summary, method: Method, over: Method) -> Result<Option<String>> {
    let mut found = summary.comparisons.iter();
    let Some(found) = found.find(|it| (it.method, it.over) == (method, over)) else {
        return Ok(None);
    };
    let names = found.tasks.keys().map(String::as_str);
    let names: Vec<_> = names.chain(found.mean.map(|_| "mean")).collect();
    let gains = found.tasks.values().chain(&found.mean);
    let gains: Vec<_> = gains
        .map(|it| [it.low, it.value, it.high].map(|x| x * 100.0))
        .collect();
    let all = gains.iter().flatten().copied();
    let title = format!("{} over {}", method.title(), over.title());
    let label = |x: &f64| {
        let is_whole = (x - x.round()).abs() < 1e-6;
        let name = names.get(x.round() as usize).filter(|_| is_whole);
        name.map_or(String::new(), |name| short(name))
    };
    draw(|root| {
        let mut chart = ChartBuilder::on(root);
        let mut chart = chart
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(-0.5..names.len() as f64 - 0.5, around(all.chain([0.0])))?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .x_labels(2 * names.len())
            .x_label_formatter(&label)
            .y_desc("gain in ROUGE-L, %")
            .draw()?;
        let zero = [(-0.5, 0.0), (names.len() as f64 - 0.5, 0.0)];
        chart.draw_series(LineSeries::new(zero, BLACK.mix(0.5)))?;
        chart.draw_series(gains.iter().enumerate().map(|(x, &[low, value, high])| {
            ErrorBar::new_vertical(x as f64, low, value, high, BLUE.filled(), 10)
        }))?;
        Ok(())
    })
    .map(Some)
}

/// Draws, for each user, the gain of CoPe over the task adapter in ROUGE-L against the number of items in the user's
/// history. `None` without such users.
///
/// # Errors
///
/// The errors of [`gains`].
pub fn gains_by_history(answers: &[Answers]) -> Result<Option<String>> {
    let scores = |method| {
        let answers = answers.iter().filter(move |it| it.method == method);
        answers.map(move |it| {
            (
                (it.task.as_str(), it.user.as_str()),
                (it.n_history, it.rouge_l()),
            )
        })
    };
    let tam: BTreeMap<_, _> = scores(Method::Tam).collect();
    let mut points: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for ((task, user), (n_history, cope)) in scores(Method::Cope) {
        if let Some((_, tam)) = tam.get(&(task, user)) {
            let point = (n_history as f64, 100.0 * (cope - tam));
            points.entry(task).or_default().push(point);
        }
    }
    if points.is_empty() {
        return Ok(None);
    }
    let series: Vec<_> = points
        .into_iter()
        .map(|(task, points)| (short(task), points))
        .collect();
    let axes = ("items in the history", "ROUGE-L, CoPe − TAM, points");
    scatter("Gain by the size of the history", axes, &series, false).map(Some)
}

/// Draws the scores of the trials of `setting` against its values: a line for each task. `None` without such trials.
///
/// # Errors
///
/// The errors of [`gains`].
pub fn curves(trials: &[Trial], setting: &str) -> Result<Option<String>> {
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for trial in trials.iter().filter(|trial| trial.setting == setting) {
        if let Some(value) = trial.value.as_f64() {
            lines
                .entry(&trial.task)
                .or_default()
                .push((value, trial.rouge_l));
        }
    }
    if lines.is_empty() {
        return Ok(None);
    }
    // Scores of different tasks cannot be compared, but their distances from each task's best score can.
    let relative = |(task, mut points): (&str, Vec<(f64, f64)>)| {
        points.sort_by(|x, y| x.0.total_cmp(&y.0));
        points.dedup();
        let best = points
            .iter()
            .map(|it| it.1)
            .fold(f64::MIN_POSITIVE, f64::max);
        let points = points
            .into_iter()
            .map(|(x, y)| (x, 100.0 * y / best))
            .collect();
        (short(task), points)
    };
    let series: Vec<_> = lines.into_iter().map(relative).collect();
    let name = setting.trim_start_matches('/');
    let axes = (name, "ROUGE-L on dev, % of the best");
    scatter(&format!("{name}, tried on dev"), axes, &series, true).map(Some)
}

/// Draws named series of points, which lines connect if `joined`. `x` and `y` are the titles of the axes.
fn scatter(
    title: &str,
    (x, y): (&str, &str),
    series: &[(String, Vec<(f64, f64)>)],
    joined: bool,
) -> Result<String> {
    let points = || series.iter().flat_map(|(_, points)| points);
    let (xs, ys) = (
        around(points().map(|it| it.0)),
        around(points().map(|it| it.1)),
    );
    draw(|root| {
        let mut chart = ChartBuilder::on(root);
        let mut chart = chart
            .caption(title, ("sans-serif", 18))
            .margin(12)
            .margin_right(LEGEND_WIDTH)
            .x_label_area_size(40)
            .y_label_area_size(56)
            .build_cartesian_2d(xs, ys)?;
        chart
            .configure_mesh()
            .max_light_lines(0)
            .x_desc(x)
            .y_desc(y)
            .draw()?;
        for (number, (name, points)) in series.iter().enumerate() {
            let colour = Palette99::pick(number).to_rgba();
            if joined {
                chart.draw_series(LineSeries::new(points.iter().copied(), colour))?;
            }
            let dots = points
                .iter()
                .map(|&point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots)?;
            // The legend stands beside the chart, so that it hides no point.
            let (x, y) = ((SIZE.0 - LEGEND_WIDTH) as i32, 48 + 18 * number as i32);
            root.draw(&Circle::new((x + 12, y), 4, colour.filled()))?;
            root.draw(&Text::new(
                name.as_str(),
                (x + 22, y - 5),
                ("sans-serif", 12),
            ))?;
        }
        Ok(())
    })
}

/// The whole area of a figure.
type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// Draws a figure on a white ground.
fn draw(figure: impl FnOnce(&Root) -> Result<(), Box<dyn std::error::Error>>) -> Result<String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let drawn = root
        .fill(&WHITE)
        .map_err(Into::into)
        .and_then(|()| figure(&root));
    let drawn = drawn.and_then(|()| root.present().map_err(Into::into));
    drop(root);
    drawn.map_err(cannot_draw)?;
    Ok(svg)
}

fn cannot_draw(error: impl Display) -> Error {
    Error::input(format!("a figure cannot be drawn: {error}"))
}

/// A range that holds all of `values`, with a margin.
fn around(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    let margin = (0.06 * (high - low)).max(1e-3);
    low - margin..high + margin
}

/// A task's name without its middle words: `news_headline_huffpost` becomes `news huffpost`.
fn short(task: &str) -> String {
    let words: Vec<_> = task.split('_').collect();
    match words.as_slice() {
        [first, .., last] => format!("{first} {last}"),
        _ => task.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::store::Prediction;
    use super::super::study::StudyLimits;
    use super::*;

    fn answers(task: &str, n: usize, method: Method, rouge_l: f64) -> Answers {
        let prediction = |number: usize| Prediction {
            id: number.to_string(),
            text: None,
            rouge_1: rouge_l,
            rouge_l: rouge_l + 0.01 * number as f64,
            n_tokens: 10,
            n_changed: 1,
            looped: false,
            cut: false,
            seconds: 0.5,
        };
        Answers {
            key: String::new(),
            task: task.to_owned(),
            user: n.to_string(),
            method,
            device: String::new(),
            n_history: 30 + n,
            training_seconds: None,
            predictions: (0..3).map(prediction).collect(),
        }
    }

    #[test]
    fn figures_name_what_they_show() {
        let all: Vec<_> = ["news_headline_huffpost", "product_review_wine"]
            .into_iter()
            .flat_map(|task| {
                [(Method::Tam, 0.1), (Method::Cope, 0.2)].map(|(method, rouge_l)| {
                    [0, 1].map(|user| answers(task, user, method, rouge_l))
                })
            })
            .flatten()
            .collect();
        let summary = Summary::new(&all, &["product_review_wine".into()]);
        let trial = |value: f32, rouge_l| Trial {
            task: "product_review_wine".into(),
            base_sha256: String::new(),
            limits: StudyLimits::default(),
            setting: "/decoding/cope/contrast".into(),
            value: json!(value),
            method: Method::Cope,
            rouge_l,
            n_answers: 8,
        };
        let trials = [trial(0.1, 0.2), trial(0.3, 0.25)];
        let drawn = [
            (gains(&summary, Method::Cope, Method::Tam), "CoPe over TAM"),
            (gains_by_history(&all), "news huffpost"),
            (curves(&trials, "/decoding/cope/contrast"), "product wine"),
        ];
        for (svg, name) in drawn {
            let svg = svg.unwrap().unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
            assert!(svg.contains(name), "{svg}");
        }
        assert!(
            gains(&summary, Method::Cope, Method::Oppu)
                .unwrap()
                .is_none()
        );
        assert!(
            curves(&trials, "/decoding/cope/plausibility")
                .unwrap()
                .is_none()
        );
    }
}
