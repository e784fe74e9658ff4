package deadletters

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// leave makes a journal that a run left when it was killed, long ago or just now: the first letter
// of orders.dead was confirmed, and the second one was being sent.
func (s *site) leave(t *testing.T, ago time.Duration) (path string) {
	t.Helper()
	look, err := New(s.driver, "orders.dead").List(t.Context(), Filter{}, 2)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	confirmed, doubtful := &look.Letters[0], &look.Letters[1]
	if err := errors.Join(
		j.sending(confirmed.digest(), confirmed.Ref(), "orders"), j.sending(doubtful.digest(), doubtful.Ref(), "orders"),
		j.confirms(confirmed.digest()), j.Close(false), os.Chtimes(path, time.Now(), time.Now().Add(-ago)),
	); err != nil {
		t.Fatal(err)
	}
	return path
}

// replay replays orders.dead with the journal at path, and reports whether that is there still.
func (s *site) replay(t *testing.T, path string, o ReplayOptions) (Report, bool) {
	t.Helper()
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	o.Journal = j
	report, err := New(s.driver, "orders.dead").Replay(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Close(true); err != nil {
		t.Error(err)
	}
	_, err = os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return report, err == nil
}

// TestJournalIsKept: what a killed run left is not forgotten with a run that has not met all of it.
func TestJournalIsKept(t *testing.T) {
	for name, c := range map[string]struct {
		ago   time.Duration
		o     ReplayOptions
		keeps bool
	}{
		"all, later":                 {time.Hour, ReplayOptions{}, false},
		"all, at once":               {0, ReplayOptions{}, true}, // more may come back
		"what it tells of, later":    {time.Hour, ReplayOptions{Filter: Filter{Refs: []string{"m0", "m1"}}}, false},
		"what was confirmed only":    {time.Hour, ReplayOptions{Filter: Filter{Refs: []string{"m0"}}}, true},
		"what is in doubt only":      {time.Hour, ReplayOptions{Filter: Filter{Refs: []string{"m1"}}}, true},
		"what it does not tell of":   {time.Hour, ReplayOptions{Filter: Filter{Refs: []string{"m2"}}}, true},
		"what is not there":          {time.Hour, ReplayOptions{Filter: Filter{Refs: []string{"x"}}}, true},
		"a few":                      {time.Hour, ReplayOptions{Limit: 1}, true},
		"to where they are not sent": {time.Hour, ReplayOptions{To: "nowhere"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.die(t, 3)
			path := s.leave(t, c.ago)
			before, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			first, keeps := s.replay(t, path, c.o)
			if keeps != c.keeps {
				t.Fatalf("the journal is kept: %t, want %t", keeps, c.keeps)
			}
			if keeps { // as it was, and the next run reads it
				if now, err := os.Stat(path); err != nil || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
					t.Errorf("it was %+v, and is %+v, %v", before, now, err)
				}
				if err := os.Chtimes(path, time.Now(), time.Now().Add(-time.Hour)); err != nil {
					t.Fatal(err)
				}
				second, keeps := s.replay(t, path, ReplayOptions{})
				if keeps {
					t.Error("it is kept by a run that has met all")
				}
				first.Doubtful = append(first.Doubtful, second.Doubtful...)
			} else if len(c.o.Filter.Refs) > 0 {
				s.replay(t, path, ReplayOptions{})
			}
			if got := s.ids(t, "orders"); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"m1", "m2"}) {
				t.Errorf("sent %q", got)
			}
			if left := s.ids(t, "orders.dead"); len(left) > 0 {
				t.Errorf("left %q", left)
			}
			if !slices.Equal(first.Doubtful, []Doubt{{"m1", "orders", MaybeBefore}}) {
				t.Errorf("in doubt: %+v", first.Doubtful)
			}
		})
	}
}

// TestInterruptedReplayForgets: a run that was interrupted ended in order. What it sent and is
// imported again is sent again.
func TestInterruptedReplayForgets(t *testing.T) {
	s := newSite(t)
	s.die(t, 40)
	dead := New(s.driver, "orders.dead")
	look, err := dead.List(t.Context(), Filter{}, 40)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	first, err := dead.Replay(ctx, ReplayOptions{Journal: j, Progress: func(*Letter, string) { cancel() }})
	if !errors.Is(err, context.Canceled) || first.Sent == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	if err := j.Close(true); err != nil {
		t.Error(err)
	}
	for i := range first.Sent {
		r := NewRecord(&look.Letters[i])
		if err := dead.Import(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
	}
	if second, keeps := s.replay(t, path, ReplayOptions{}); keeps || second.Sent != 40 || second.Recognized > 0 {
		t.Errorf("%+v; the journal is kept: %t", second, keeps)
	}
}

// TestJournalRemembersTheLast: of more letters than are remembered, those that were confirmed last
// may be among the dead letters still.
func TestJournalRemembersTheLast(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const n = 2*maxKnown + 50
	numbered := func(i int) (d digest) {
		binary.BigEndian.PutUint64(d[:], uint64(i))
		return d
	}
	w := bufio.NewWriter(f)
	for i := range n {
		d := numbered(i)
		fmt.Fprintf(w, "%s %s\n", markConfirmed, hex.EncodeToString(d[:]))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		t.Fatal(err)
	}
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(false)
	k := newKnown(j)
	for i := n - 1000; i < n; i++ {
		if sent, _ := k.has(numbered(i)); !sent {
			t.Fatalf("letter %d of %d is forgotten", i, n)
		}
	}
	if len(k.sent) > maxKnown || len(j.confirmed) > 2*maxKnown {
		t.Errorf("%d are remembered, of %d", len(k.sent), len(j.confirmed))
	}
}
