//! Charts as drawings, made here: no script draws them, and colours are the style's.

/// A line over a field of `width` by `height`, as the points of an SVG polyline; the largest value is at the top.
pub(crate) fn line(values: &[f64], width: f64, height: f64) -> String {
    let most = values.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let step = width / (values.len().max(2) - 1) as f64;
    let mut points = String::new();
    for (place, value) in values.iter().enumerate() {
        let (x, y) = (place as f64 * step, height - value.max(0.0) / most * (height - 1.0));
        points.extend([format!("{x:.1},{y:.1} ")]);
    }
    points.trim_end().to_owned()
}

/// The values in so many groups, each the sum of its own: what is older than there is was nothing.
pub(crate) fn grouped(values: impl IntoIterator<Item = u64>, whole: usize, groups: usize) -> Vec<f64> {
    let values: Vec<u64> = values.into_iter().collect();
    let missing = whole.saturating_sub(values.len());
    let mut sums = vec![0.0; groups.max(1)];
    for (place, value) in values.iter().enumerate() {
        let group = (missing + place) * groups / whole.max(1);
        sums[group.min(groups.max(1) - 1)] += *value as f64;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_in_its_field() {
        assert_eq!(line(&[0.0, 5.0, 10.0], 100.0, 21.0), "0.0,21.0 50.0,11.0 100.0,1.0");
        assert_eq!(line(&[0.0, 0.0], 10.0, 5.0), "0.0,5.0 10.0,5.0");
        assert_eq!(line(&[], 10.0, 5.0), "");
        assert_eq!(line(&[f64::NAN, 1.0], 10.0, 5.0).split(' ').count(), 2);
    }

    #[test]
    fn groups_are_sums_and_what_is_missing_was_before() {
        assert_eq!(grouped([1, 2, 3], 6, 3), [0.0, 1.0, 5.0]);
        assert_eq!(grouped([1; 6], 6, 2), [3.0, 3.0]);
        assert_eq!(grouped([], 6, 2), [0.0, 0.0]);
        assert_eq!(grouped([7; 10], 6, 2), [21.0, 49.0]);
    }
}
