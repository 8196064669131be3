//! Line charts as inline SVG.

use std::fmt::Write;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 340.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 15.0;
const TOP: f64 = 34.0;
/// Where the horizontal axis lies.
const BASE: f64 = HEIGHT - 44.0;
/// Told apart by people who see colours differently, and in print.
const COLOURS: [&str; 8] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#444444", "#999900"];

/// How values lie along an axis.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By powers of ten.
    Log,
}

/// One axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: &'static str,
    /// How values lie along it.
    pub scale: Scale,
    /// Marks other than round numbers.
    pub marks: Option<Vec<(f64, String)>>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Index of the colour.
    pub colour: usize,
    /// Dashed rather than solid.
    pub is_dashed: bool,
    /// The points, by rising x.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Title above it.
    pub title: &'static str,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// Text made safe inside HTML and SVG.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|v| v.is_finite() && (scale == Scale::Linear || *v > 0.0));
        let (mut low, mut high) = values.fold((f64::MAX, f64::MIN), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        match scale {
            Scale::Linear => {
                Self { scale, low: low.min(0.0), high: if high > 0.0 { high * 1.05 } else { 1.0 } }
            }
            Scale::Log => {
                let (low, high) = (low.log10().floor(), high.log10().ceil());
                Self { scale, low, high: if high > low { high } else { low + 1.0 } }
            }
        }
    }

    /// Where `value` lies, 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let value = match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(1e-9).log10(),
        };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    fn marks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Log => (self.low as i32..=self.high as i32).map(|p| mark(10f64.powi(p))).collect(),
            Scale::Linear => {
                let step = round_step((self.high - self.low) / 6.0);
                let count = ((self.high - self.low) / step) as usize;
                (0..=count).map(|i| mark(self.low + step * i as f64)).collect()
            }
        }
    }
}

fn mark(value: f64) -> (f64, String) {
    let text = match value {
        v if v >= 1e6 => format!("{} M", v / 1e6),
        v if v >= 1e4 => format!("{} k", v / 1e3),
        v => format!("{}", (v * 1000.0).round() / 1000.0),
    };
    (value, text)
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.max(1e-9).log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|f| f * power).find(|s| *s >= step).unwrap_or(power * 10.0)
}

/// Where values lie on the drawing.
struct Plane {
    x: Range,
    y: Range,
}

impl Plane {
    fn of(chart: &Chart) -> Self {
        let points = || chart.series.iter().flat_map(|s| s.points.iter());
        Self {
            x: Range::of(chart.x.scale, points().map(|p| p.0)),
            y: Range::of(chart.y.scale, points().map(|p| p.1)),
        }
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        BASE - self.y.place(value) * (BASE - TOP)
    }
}

/// The chart as an `<svg>` element and its legend.
pub fn render(chart: &Chart) -> String {
    let plane = Plane::of(chart);
    let title = escape(chart.title);
    let mut out = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\"><title>{title}</title>\n");
    out += &text("t", LEFT, 18.0, chart.title);
    out += &text("m", WIDTH / 2.0, HEIGHT - 8.0, chart.x.label);
    out += &text("l", WIDTH - RIGHT, 18.0, chart.y.label);
    for (value, label) in chart.x.marks.clone().unwrap_or_else(|| plane.x.marks()) {
        let at = plane.at_x(value);
        out += &format!("<path class=\"g\" d=\"M{at:.1} {TOP}V{BASE}\"/>");
        out += &text("m", at, BASE + 15.0, &label);
    }
    for (value, label) in chart.y.marks.clone().unwrap_or_else(|| plane.y.marks()) {
        let at = plane.at_y(value);
        out += &format!("<path class=\"g\" d=\"M{LEFT} {at:.1}H{}\"/>", WIDTH - RIGHT);
        out += &text("l", LEFT - 5.0, at + 4.0, &label);
    }
    chart.series.iter().filter(|s| !s.points.is_empty()).for_each(|series| out += &line(series, &plane));
    out + "</svg>\n" + &legend(chart)
}

fn text(class: &str, x: f64, y: f64, content: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(content))
}

fn line(series: &Series, plane: &Plane) -> String {
    let place = |(x, y): &(f64, f64)| format!("{:.1},{:.1}", plane.at_x(*x), plane.at_y(*y));
    let points: Vec<String> = series.points.iter().map(place).collect();
    let dash = if series.is_dashed { " stroke-dasharray=\"5 4\"" } else { "" };
    format!(
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.7\"{dash}><title>{}</title></polyline>\n",
        points.join(" "),
        COLOURS[series.colour % COLOURS.len()],
        escape(&series.name)
    )
}

fn legend(chart: &Chart) -> String {
    let mut out = String::from("<p class=\"legend\">");
    for series in chart.series.iter().filter(|s| !s.points.is_empty()) {
        let style = if series.is_dashed { "dashed" } else { "solid" };
        let colour = COLOURS[series.colour % COLOURS.len()];
        let _ = write!(
            out,
            "<span><i style=\"border-top:2px {style} {colour}\"></i>{}</span> ",
            escape(&series.name)
        );
    }
    out + "</p>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>, scale: Scale) -> Chart {
        let axis = |label| Axis { label, scale, marks: None };
        let series = vec![Series { name: "<run> & co".into(), colour: 9, is_dashed: true, points }];
        Chart { title: "t", x: axis("x"), y: axis("y"), series }
    }

    #[test]
    fn names_are_escaped_and_points_stay_inside() {
        for scale in [Scale::Linear, Scale::Log] {
            let svg = render(&chart(vec![(0.0, 0.0), (1.0, 5.0), (2.0, 1e7)], scale));
            assert!(svg.contains("&lt;run&gt; &amp; co") && !svg.contains("<run>"));
            let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
            for point in points.split(' ') {
                let (x, y) = point.split_once(',').unwrap();
                let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
                assert!((LEFT..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
            }
        }
    }

    #[test]
    fn an_empty_chart_is_drawn_too() {
        assert!(render(&chart(vec![], Scale::Log)).contains("<svg"));
    }

    #[test]
    fn steps_are_round() {
        assert_eq!([round_step(0.7), round_step(1.5), round_step(23.0)], [1.0, 2.0, 50.0]);
    }
}
