package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// Order is what a customer asks for.
type Order struct {
	ID         string `json:"id"`
	Customer   string `json:"customer"`
	Address    string `json:"address"`
	Restaurant string `json:"restaurant"`
	Dishes     []Dish `json:"dishes"`
	Note       string `json:"note,omitempty"`
}

// Dish is a line of an order. Money is in cents: whole numbers add up.
type Dish struct {
	Name  string `json:"name"`
	Cents int    `json:"cents"`
	Count int    `json:"count"`
}

// Total is the price of the order in cents.
func (o Order) Total() int {
	sum := 0
	for _, d := range o.Dishes {
		sum += d.Cents * d.Count
	}
	return sum
}

//go:embed orders.jsonl
var shipped []byte

// loadOrders reads an order from each line of file, or of what comes with the
// program. It reports a line that holds none, and goes on with the next.
func loadOrders(file string, report func(format string, args ...any)) ([]Order, error) {
	data := shipped
	if file != "" {
		var err error
		if data, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	file = cmp.Or(file, "orders.jsonl")
	var orders []Order
	lineOf := map[string]int{} // by id
	n := 0
	for line := range bytes.Lines(data) {
		n++
		o, err := parseOrder(line)
		if before := lineOf[o.ID]; err == nil && before > 0 {
			err = fmt.Errorf("id %q is that of line %d", o.ID, before)
		}
		if err != nil {
			report("%s:%d: %v", file, n, err)
			continue
		}
		lineOf[o.ID] = n
		orders = append(orders, o)
	}
	if len(orders) == 0 {
		return nil, fmt.Errorf("%s: no orders", file)
	}
	return orders, nil
}

func parseOrder(line []byte) (o Order, err error) {
	const maxLine = 16 << 10
	switch line = bytes.TrimSpace(line); {
	case len(line) == 0:
		return o, errors.New("empty line")
	case len(line) > maxLine:
		return o, fmt.Errorf("%d bytes, more than %d", len(line), maxLine)
	}
	if err := json.Unmarshal(line, &o); err != nil {
		return o, err
	}
	switch {
	case o.ID == "":
		return o, errors.New("no id")
	case o.Customer == "" || o.Address == "":
		return o, errors.New("no customer, or no address to go to")
	case o.Restaurant == "" || len(o.Dishes) == 0:
		return o, errors.New("no restaurant, or no dishes")
	}
	for _, d := range o.Dishes {
		if d.Cents < 0 || d.Cents > 1_000_000 || d.Count < 1 || d.Count > 1000 {
			return o, fmt.Errorf("%q %d times for %d cents each", d.Name, d.Count, d.Cents)
		}
	}
	return o, nil
}
