//! Text in columns.

/// Lays rows out in columns, each as wide as its widest cell; what follows the last column is not padded.
pub(crate) fn lay_out(rows: &[Vec<String>]) -> String {
    lay_out_from(rows, &[])
}

/// As [`lay_out`], each column at least so wide: for rows that come one by one.
pub(crate) fn lay_out_from(rows: &[Vec<String>], least: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let least = |column: usize| least.get(column).copied().unwrap_or(0);
    let widths: Vec<usize> =
        (0..columns).map(|column| width(column).unwrap_or(0).max(least(column))).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let padding = width.saturating_sub(cell.chars().count()) + 2;
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', padding));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text for one cell: on one line, and cut where it would push the others away.
pub(crate) fn cell(text: &str, most: usize) -> String {
    let one_line: String =
        text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    if one_line.chars().count() <= most {
        return one_line;
    }
    one_line.chars().take(most.saturating_sub(3)).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::{cell, lay_out};

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["a".to_owned(), "bcd".to_owned()], vec!["efgh".to_owned(), "i".to_owned()]];
        assert_eq!(lay_out(&rows), "a     bcd\nefgh  i\n");
        assert_eq!(lay_out(&[]), "");
    }

    #[test]
    fn a_cell_has_one_line_and_its_width() {
        assert_eq!(cell("a\nb", 9), "a b");
        assert_eq!(cell("äbcdefghij", 6), "äbc...");
    }
}
