package main

import "strings"

// ticket is a value of about 1 KiB in JSON.
type ticket struct {
	ID       string  `json:"id"`
	Customer string  `json:"customer"`
	Dishes   []dish  `json:"dishes"`
	Cents    int     `json:"cents"`
	Lat      float64 `json:"lat"`
	Lon      float64 `json:"lon"`
	Note     string  `json:"note"`
}

type dish struct {
	Name  string `json:"name"`
	Cents int    `json:"cents"`
	Count int    `json:"count"`
}

func newTicket() ticket {
	t := ticket{ID: "o-4711", Customer: "Ada Lovelace", Lat: 51.5217, Lon: -0.1531, Note: strings.Repeat("Ring twice. ", 30)}
	for range 10 {
		t.Dishes = append(t.Dishes, dish{"pad thai with tofu", 1290, 2})
		t.Cents += 2580
	}
	return t
}
