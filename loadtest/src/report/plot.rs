//! Small SVG plots.
