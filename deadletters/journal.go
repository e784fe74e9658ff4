package deadletters

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// A Journal is a file in which a replay notes what it sends, for the case that its process is
// killed: a letter that is confirmed and not yet acknowledged is then in two places, and nothing at
// the broker says so. It has digests, ids and names of queues, no content. It survives the process;
// it is not synced, so not every crash of the machine.
//
// It is for one replay at a time.
type Journal struct {
	file *os.File

	// What earlier runs left.
	confirmed []digest         // in order; of many the last ones
	doubtful  map[digest]Doubt // sent, without a confirm
	repeated  []Doubt          // sent again after that
	size      int64            // of the file then; 0 = they left nothing
	at        time.Time        // when they wrote last

	// What has become of the replays since.
	unsettled bool // what one of them sent may still be among the dead letters
	through   bool // one has taken all letters that the earlier runs left, and came to the end
}

// returnTime is how long after the last line of a process that was killed what it had in hand is
// back in its queue: brokers notice within their heartbeats or locks, which are seconds.
const returnTime = 10 * time.Minute

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
	j := &Journal{file: file, doubtful: map[digest]Doubt{}}
	info, err := file.Stat()
	if err == nil {
		err = j.read(file)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), file.Close())
	}
	if confirmed, doubtful := j.Left(); confirmed+doubtful > 0 {
		j.size, j.at = info.Size(), info.ModTime()
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
			if j.confirmed = append(j.confirmed, d); len(j.confirmed) == 2*maxKnown {
				j.confirmed = slices.Clone(j.confirmed[maxKnown:])
			}
		}
	}
	return lines.Err()
}

// Left returns how many letters an earlier run was sending when it was killed: confirmed are those
// that were sent, of which some may still be among the dead letters, and doubtful those that may or
// may not have been. Of very many confirmed ones only the last are counted.
func (j *Journal) Left() (confirmed, doubtful int) { return len(j.confirmed), len(j.doubtful) }

// repeats returns what earlier runs sent a second time after an unconfirmed first one.
func (j *Journal) repeats() []Doubt {
	if j == nil {
		return nil
	}
	return j.repeated
}

// doubts reports whether an earlier run left a letter in doubt.
func (j *Journal) doubts(d digest) bool {
	if j == nil {
		return false
	}
	_, is := j.doubtful[d]
	return is
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

// ended notes how a replay has ended.
func (j *Journal) ended(settled, through bool) {
	if j != nil {
		j.unsettled = j.unsettled || !settled
		j.through = j.through || through
	}
}

// Close closes the journal, and removes it if nothing is left to remember. closed says that the
// driver is closed without an error, so that every acknowledgement has been sent.
//
// What a replay noted is forgotten if it ended in order, by itself or because its ctx did. What an
// earlier one left is forgotten only with a replay that has taken all of that and came to the end
// of the queue, 10 minutes or more after it: so long a broker may take to notice that a process was
// killed, and to put back what it had.
func (j *Journal) Close(closed bool) error {
	name, forgets := j.file.Name(), closed && !j.unsettled
	keeps := j.size > 0 && (!j.through || time.Since(j.at) < returnTime)
	var err error
	if forgets && keeps {
		err = j.file.Truncate(j.size)
	}
	err = errors.Join(err, j.file.Close())
	switch {
	case !forgets:
		return err
	case keeps:
		return errors.Join(err, os.Chtimes(name, j.at, j.at))
	}
	return errors.Join(err, os.Remove(name))
}
