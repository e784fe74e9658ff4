package main

import (
	"fmt"
	"slices"
	"testing"
)

func TestLoadOrdersReportsBadLines(t *testing.T) {
	var reports []string
	orders, err := loadOrders("testdata/bad.jsonl", func(format string, args ...any) {
		reports = append(reports, fmt.Sprintf(format, args...))
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, o := range orders {
		ids = append(ids, o.ID)
	}
	if !slices.Equal(ids, []string{"B-1", "B-4", "B-14"}) { // the last without a newline
		t.Errorf("read %v", ids)
	}
	want := []string{
		`2: unexpected end of JSON input`,
		`3: no id`,
		`5: id "B-1" is that of line 1`,
		`6: "Falafel wrap" 1 times for -790 cents each`,
		`7: 17647 bytes, more than 16384`,
		`8: empty line`,
		`9: no restaurant, or no dishes`,
		`10: "Mint tea" 0 times for 250 cents each`,
		`11: json: cannot unmarshal number 2.5 into Go struct field Dish.dishes.cents of type int`,
		`12: invalid character 'w' in literal true (expecting 'r')`,
		`13: invalid character 't' after top-level value`,
	}
	for i := range want {
		want[i] = "testdata/bad.jsonl:" + want[i]
	}
	if !slices.Equal(reports, want) {
		t.Errorf("reported\n%q, want\n%q", reports, want)
	}
}

func TestTheShippedOrders(t *testing.T) {
	orders, err := loadOrders("", t.Errorf)
	if err != nil {
		t.Fatal(err)
	}
	restaurants := map[string]bool{}
	for _, o := range orders {
		restaurants[o.Restaurant] = true
		if total := o.Total(); total < 100 || total > 50_000 {
			t.Errorf("%s costs %d cents", o.ID, total)
		}
	}
	if len(orders) != 300 || len(restaurants) != 20 {
		t.Errorf("%d orders from %d restaurants", len(orders), len(restaurants))
	}
}

func TestTotal(t *testing.T) {
	o := Order{Dishes: []Dish{{Cents: 1240, Count: 1}, {Cents: 280, Count: 3}}}
	if got := o.Total(); got != 2080 {
		t.Errorf("got %d cents, want 2080", got)
	}
}
