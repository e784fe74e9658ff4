package deadletters

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// A Journal is a file in which a replay notes what it sends, for the case that its process is
// killed: a letter that is confirmed and not yet acknowledged is then in two places, and nothing at
// the broker says so. It has digests, ids and names of queues, no content. It survives the process;
// it is not synced, so not every crash of the machine.
//
// It is for one replay at a time.
type Journal struct {
	file *os.File

	// What earlier runs left, by letter.
	confirmed map[digest]struct{}
	doubtful  map[digest]Doubt // sent, without a confirm
	repeated  []Doubt          // sent again after that
}

// Marks of a line in a journal.
const (
	markSending   = "sending"
	markConfirmed = "confirmed"
)

// OpenJournal opens the journal of that path, making it if it does not exist, and reads what is in
// it: what an earlier replay sent, which was killed.
func OpenJournal(path string) (*Journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{file: file, confirmed: map[digest]struct{}{}, doubtful: map[digest]Doubt{}}
	if err := j.read(file); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), file.Close())
	}
	return j, nil
}

func (j *Journal) read(r io.Reader) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		mark, rest, _ := strings.Cut(lines.Text(), " ")
		text, rest, _ := strings.Cut(rest, " ")
		var d digest
		if n, err := hex.Decode(d[:], []byte(text)); err != nil || n != len(d) || len(text) != 2*len(d) {
			continue // the last line of a process that was killed while it wrote
		}
		switch mark {
		case markSending:
			var names [2]string
			if json.Unmarshal([]byte(rest), &names) != nil {
				continue
			}
			doubt := Doubt{names[0], names[1], MaybeBefore}
			if _, before := j.doubtful[d]; before {
				j.repeated = append(j.repeated, doubt)
			}
			j.doubtful[d] = doubt
		case markConfirmed:
			delete(j.doubtful, d)
			j.confirmed[d] = struct{}{}
		}
	}
	return lines.Err()
}

// Left returns how many letters an earlier run was sending when it was killed: confirmed are those
// that were sent, of which some may still be among the dead letters, and doubtful those that may or
// may not have been.
func (j *Journal) Left() (confirmed, doubtful int) { return len(j.confirmed), len(j.doubtful) }

// repeats returns what earlier runs sent a second time after an unconfirmed first one.
func (j *Journal) repeats() []Doubt {
	if j == nil {
		return nil
	}
	return j.repeated
}

// doubt returns what an earlier run left in doubt about a letter, once.
func (j *Journal) doubt(d digest) (Doubt, bool) {
	if j == nil {
		return Doubt{}, false
	}
	doubt, ok := j.doubtful[d]
	delete(j.doubtful, d)
	return doubt, ok
}

func (j *Journal) sending(d digest, ref, to string) error {
	if j == nil {
		return nil
	}
	names, err := json.Marshal([2]string{ref, to})
	if err != nil {
		return err
	}
	return j.write(markSending, d, " "+string(names))
}

func (j *Journal) confirms(d digest) error {
	if j == nil {
		return nil
	}
	return j.write(markConfirmed, d, "")
}

func (j *Journal) write(mark string, d digest, rest string) error {
	_, err := j.file.WriteString(mark + " " + hex.EncodeToString(d[:]) + rest + "\n")
	return err
}

// Close closes the journal, and removes it if nothing is left to remember: done says that the run
// has ended by itself and its driver is closed, so that every acknowledgement has been sent.
func (j *Journal) Close(done bool) error {
	err := j.file.Close()
	if done {
		err = errors.Join(err, os.Remove(j.file.Name()))
	}
	return err
}
