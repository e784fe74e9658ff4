package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/motifmq/motif/adapters"
	"github.com/motifmq/motif/deadletters"
)

var editCommand = command{
	name: "dead edit", args: "QUEUE ID", short: "edit a dead letter in $EDITOR and send it back",
	long: `
Opens the letter's headers and payload in $VISUAL, $EDITOR or vi, shows what was changed, asks, and
sends it to where it died. It leaves QUEUE when the broker has confirmed it there. JSON is shown with
line breaks, and sent without. What is no text cannot be edited.`,
	setup: func(flags *flag.FlagSet) action {
		to := flags.String("to", "", "send it to `QUEUE` rather than to where it died")
		yes := flags.Bool("yes", false, "do not ask")
		return func(ctx context.Context, i *invocation) error { return i.edit(ctx, *to, *yes) }
	},
}

var errNotSent = errors.New("nothing was sent")

func (i *invocation) edit(ctx context.Context, to string, yes bool) error {
	return i.withQueue(ctx, func(q *deadletters.Queue) error {
		look, err := q.List(ctx, deadletters.Filter{Refs: i.args[1:]}, adapters.MaxBrowse)
		if err == nil {
			err = i.missing(look)
		}
		if err == nil && len(look.Letters) > 1 {
			err = fmt.Errorf("%d letters have the id %s: export and import them instead", len(look.Letters), safe(i.args[1], 64))
		}
		if err != nil {
			return err
		}
		l := &look.Letters[0]
		to := cmp.Or(to, l.From())
		if to == "" {
			return usagef("the letter does not say where it died: -to says where to send it")
		}
		before, err := editable(l)
		if err != nil {
			return err
		}
		after, err := i.editor(ctx, before)
		if err != nil {
			return err
		}
		edited, err := readEdited(l, after)
		if err != nil {
			return err
		}
		i.showDifference(before, after)
		if before == after {
			fmt.Fprintln(i.stdout, "Nothing was changed.")
		}
		if !yes && !i.ask(ctx, fmt.Sprintf("Send this letter to queue %q?", safe(to, 64))) {
			return errNotSent
		}
		report, err := q.Replay(ctx, deadletters.ReplayOptions{
			Filter: deadletters.Filter{Refs: []string{l.Digest()}}, Limit: 1, To: to,
			Change: func(l *deadletters.Letter) error {
				l.Message, l.ContentType, l.ContentEncoding = edited.Message, edited.ContentType, edited.ContentEncoding
				return nil
			},
		})
		return errors.Join(i.writeReport(report, "sent"), err, failures(report))
	})
}

// The headers that are about the letter's death are neither shown nor sent.
const editSeparator = "---"

// editable returns a letter as it is edited: a line for each header, as JSON, and the payload
// behind a line of dashes.
func editable(l *deadletters.Letter) (string, error) {
	text, err := l.Text()
	if err != nil {
		return "", err
	}
	if !utf8.Valid(text) {
		return "", errors.New("the payload is no text: export the letter, change it, import it and replay it")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "content_type: %s\n", quoted(l.ContentType))
	for _, name := range slices.Sorted(maps.Keys(l.Message.Metadata)) {
		if value := l.Message.Metadata[name]; !deadletters.IsHistory(name) && utf8.ValidString(name+value) {
			fmt.Fprintf(&b, "header %s: %s\n", quoted(name), quoted(value))
		}
	}
	b.WriteString(editSeparator + "\n")
	var indented bytes.Buffer
	if !bytes.ContainsRune(text, '\n') && json.Indent(&indented, text, "", "  ") == nil {
		text = indented.Bytes()
	}
	b.Write(text)
	if !bytes.HasSuffix(text, []byte("\n")) {
		b.WriteByte('\n') // as editors do
	}
	return b.String(), nil
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always is
	return string(b)
}

// readEdited returns the letter as it was edited.
func readEdited(l *deadletters.Letter, text string) (deadletters.Letter, error) {
	edited := *l
	head, payload, ok := strings.Cut(text, "\n"+editSeparator+"\n")
	if !ok {
		return edited, fmt.Errorf("what was edited has no line %s between headers and payload: %w", editSeparator, errNotSent)
	}
	edited.Message = message.NewMessage(l.Message.UUID, nil)
	for name, value := range l.Message.Metadata {
		if deadletters.IsHistory(name) || !utf8.ValidString(name+value) {
			edited.Message.Metadata[name] = value
		}
	}
	for n, line := range strings.Split(head, "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		name, value, err := readHeader(line)
		if err != nil {
			return edited, fmt.Errorf("line %d: %w: %w", n+1, err, errNotSent)
		}
		if name == "" {
			edited.ContentType = value
		} else {
			edited.Message.Metadata[name] = value
		}
	}
	original, err := l.Text()
	if err != nil {
		return edited, err
	}
	payload = restore(original, payload)
	edited.Message.Payload = []byte(payload)
	edited.ContentEncoding = ""
	if payload == string(original) {
		edited.Message.Payload, edited.ContentEncoding = l.Message.Payload, l.ContentEncoding
	}
	return edited, nil
}

// restore undoes what editable did to the payload.
func restore(original []byte, payload string) string {
	if !bytes.HasSuffix(original, []byte("\n")) {
		payload = strings.TrimSuffix(payload, "\n")
	}
	var compact, same bytes.Buffer
	if bytes.ContainsRune(original, '\n') || json.Compact(&same, original) != nil || json.Compact(&compact, []byte(payload)) != nil {
		return payload
	}
	if compact.String() == same.String() {
		return string(original)
	}
	return compact.String()
}

// readHeader reads a line of the form: header "name": "value"; for the content type name is "".
func readHeader(line string) (name, value string, err error) {
	rest, isHeader := strings.CutPrefix(line, "header ")
	if !isHeader {
		if rest, isHeader = strings.CutPrefix(line, "content_type:"); !isHeader {
			return "", "", errors.New(`it begins with neither "content_type" nor "header"`)
		}
		return "", value, json.Unmarshal([]byte(rest), &value)
	}
	d := json.NewDecoder(strings.NewReader(rest))
	if err := d.Decode(&name); err != nil || name == "" {
		return "", "", errors.New("the header's name is no string in quotes")
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(rest[d.InputOffset():]), ":")
	if !ok || json.Unmarshal([]byte(text), &value) != nil {
		return "", "", errors.New("behind the header's name stand a colon and a string in quotes")
	}
	return name, value, nil
}

// editor has the user edit a text.
func (i *invocation) editor(ctx context.Context, text string) (string, error) {
	dir, err := os.MkdirTemp("", "motif-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // it is the system's to clean up
	file := dir + "/letter"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return "", err
	}
	program := cmp.Or(os.Getenv("VISUAL"), os.Getenv("EDITOR"), "vi")
	cmd := exec.CommandContext(ctx, "sh", "-c", program+` "$1"`, "sh", file) // it may have arguments
	cmd.Stdin, cmd.Stdout, cmd.Stderr = i.stdin, i.stdout, i.stderr
	if f, ok := i.stdin.(*os.File); !ok || f == nil {
		cmd.Stdin = nil // what is there is for the question
	}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("the editor %q failed: %w: %w", program, err, errNotSent)
	}
	after, err := os.ReadFile(file)
	return string(after), err
}

// ask asks a question, to which everything but yes is no.
func (i *invocation) ask(ctx context.Context, question string) bool {
	fmt.Fprintf(i.stdout, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(i.input(ctx)).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

// showDifference shows the lines that were changed.
func (i *invocation) showDifference(before, after string) {
	for _, line := range difference(strings.Split(before, "\n"), strings.Split(after, "\n")) {
		text := safe(line, 500)
		switch {
		case strings.HasPrefix(line, "-"):
			text = i.colour(colourBad, text)
		case strings.HasPrefix(line, "+"):
			text = i.colour(colourGood, text)
		}
		fmt.Fprintln(i.stdout, text)
	}
}

// difference returns the lines that only one of the texts has, with a sign in front: what is
// between those that begin and end both alike. It is exact for one change, and for several it is
// the whole of what is between them.
func difference(before, after []string) (lines []string) {
	for len(before) > 0 && len(after) > 0 && before[0] == after[0] {
		before, after = before[1:], after[1:]
	}
	for len(before) > 0 && len(after) > 0 && before[len(before)-1] == after[len(after)-1] {
		before, after = before[:len(before)-1], after[:len(after)-1]
	}
	for _, line := range before {
		lines = append(lines, "- "+line)
	}
	for _, line := range after {
		lines = append(lines, "+ "+line)
	}
	return lines
}
