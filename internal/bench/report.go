package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// table writes the results for people.
func table(out io.Writer, results []*Result) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "workload\tbaseline\tratio\tmin..max\tCPU ratio\tp50 ratio\tours msg/s\ttheirs\tours CPU us\ttheirs\tours allocs\ttheirs\ttarget\t")
	for _, r := range results {
		p50 := ""
		if r.P50Ratio != 0 {
			p50 = fmt.Sprintf("%.2fx", r.P50Ratio)
		}
		target := r.Target
		if r.Met != nil {
			target += map[bool]string{true: "  met", false: "  NOT MET"}[*r.Met]
		}
		fmt.Fprintf(w, "%s\t%s\t%.2fx\t%.2f..%.2f\t%.2fx\t%s\t%.0f\t%.0f\t%.2f\t%.2f\t%.1f\t%.1f\t%s\t\n",
			r.Workload, r.Baseline, r.Ratio, r.Min, r.Max, r.CPURatio, p50, r.Ours.Rate, r.Theirs.Rate, r.Ours.CPU, r.Theirs.CPU, r.Ours.Allocs, r.Theirs.Allocs, target)
	}
	_ = w.Flush()
}
