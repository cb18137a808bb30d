"""From predictions and histories to numbers: metrics, intervals, comparisons, collapse, feasibility."""
