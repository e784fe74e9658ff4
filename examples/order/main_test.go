package main

import (
	"strings"
	"testing"
	"testing/synctest"
)

const want = `in order:
  ann: open, deposit (failed), deposit, withdraw, close
  bob: open, deposit, withdraw, close
  cem: open, deposit, withdraw, close
where retries are overtaken:
  ann: open, deposit (failed), withdraw, close, deposit
  bob: open, deposit, withdraw, close
  cem: open, deposit, withdraw, close
`

func TestOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		if err := run(t.Context(), nil, &out); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	})
}
