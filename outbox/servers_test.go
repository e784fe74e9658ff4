//go:build unix

package outbox

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
)

// server is a private database server on a loopback port, with its files in a folder of its own.
type server struct {
	kind    Dialect
	dir     string
	port    int
	command []string
	owner   *syscall.Credential // PostgreSQL refuses to be root; nil: this user
	sync    bool                // it writes to the disk for sure, which is slower

	logStart int // of what it has logged since it was launched

	mu     sync.Mutex
	pid    int
	keeper *exec.Cmd // which kills the server when this program is gone
	stdin  io.Writer
}

var errNoServer = errors.New("the database server is not installed: make databases")

// keeperScript starts the server, says its process id, and kills it once it is told to, or its
// input ends because this program is gone. Then it cleans up.
const keeperScript = `"$@" </dev/null >>log 2>&1 & pid=$!; echo $pid; read word; kill -9 $pid; wait; test "$word" = keep || rm -rf "$PWD"`

var servers struct {
	sync.Mutex
	running map[Dialect]*server
	failed  map[Dialect]error
}

// sharedServer returns the server that all tests of this program share.
func sharedServer(t testing.TB, kind Dialect) *server {
	t.Helper()
	servers.Lock()
	defer servers.Unlock()
	if servers.running == nil {
		servers.running, servers.failed = map[Dialect]*server{}, map[Dialect]error{}
	}
	if servers.running[kind] == nil && servers.failed[kind] == nil {
		s, err := newServer(kind, false)
		if err != nil {
			servers.failed[kind] = err
		} else {
			servers.running[kind] = s
		}
	}
	if err := servers.failed[kind]; errors.Is(err, errNoServer) && os.Getenv("MOTIF_BROKER") == "skip" {
		t.Skip(err)
	} else if err != nil {
		t.Fatal(err)
	}
	return servers.running[kind]
}

// ownServer starts one for a test that breaks it, or that measures.
func ownServer(t testing.TB, kind Dialect, sync bool) *server {
	t.Helper()
	s, err := newServer(kind, sync)
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			t.Logf("log of %v:\n%s", kind, log[max(0, len(log)-3000):])
		}
		must(t, s.close())
	})
	return s
}

func newServer(kind Dialect, sync bool) (*server, error) {
	dir, err := os.MkdirTemp("", "motif-outbox-")
	if err != nil {
		return nil, err
	}
	s := &server{kind: kind, dir: dir, port: 20000 + rand.IntN(12000), sync: sync}
	if kind == PostgreSQL {
		err = s.preparePostgreSQL()
	} else {
		err = s.prepareMySQL()
	}
	if err == nil {
		err = s.start()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("a private %v: %w", kind, err), s.close())
	}
	return s, nil
}

// find returns the path of a server's program: Debian has PostgreSQL's beside the PATH.
func find(names ...string) (string, error) {
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
		for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/sbin/", "/usr/local/opt/*/bin/"} {
			if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
				return found[len(found)-1], nil
			}
		}
	}
	return "", fmt.Errorf("%w: %s", errNoServer, strings.Join(names, ", "))
}

func (s *server) preparePostgreSQL() error {
	initdb, err := find("initdb")
	if err != nil {
		return err
	}
	postgres := filepath.Join(filepath.Dir(initdb), "postgres")
	if os.Geteuid() == 0 {
		u, err := user.Lookup("postgres")
		if err != nil {
			return err
		}
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		s.owner = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		if err := os.Chown(s.dir, uid, gid); err != nil {
			return err
		}
	}
	data := filepath.Join(s.dir, "data")
	cmd := exec.CommandContext(context.Background(), initdb, "-D", data, "-U", "motif", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	cmd.Dir, cmd.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.owner}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	s.command = []string{
		postgres, "-D", data, "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-k", s.dir,
		"-c", "dynamic_shared_memory_type=mmap", // in its folder, where nothing stays when it is killed
	}
	if !s.sync {
		s.command = append(s.command, "-F")
	}
	return nil
}

// prepareMySQL needs no tables of the server's own: without them everybody may do everything.
func (s *server) prepareMySQL() error {
	mariadbd, err := find("mariadbd", "mysqld")
	if err != nil {
		return err
	}
	data := filepath.Join(s.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	s.command = []string{
		mariadbd, "--no-defaults", "--datadir=" + data, "--socket=" + filepath.Join(s.dir, "socket"), "--port=" + strconv.Itoa(s.port),
		"--bind-address=127.0.0.1", "--skip-grant-tables", "--skip-log-bin", "--skip-name-resolve",
		"--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M", "--pid-file=" + filepath.Join(s.dir, "pid"),
	}
	if !s.sync {
		s.command = append(s.command, "--innodb-flush-log-at-trx-commit=2")
	}
	if os.Geteuid() == 0 {
		s.command = append(s.command, "--user=root")
	}
	return nil
}

// start starts the server, and waits until it answers.
func (s *server) start() error {
	if err := s.launch(); err != nil {
		return err
	}
	driver, dsn := s.dsn("")
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		err := db.PingContext(ctx)
		cancel()
		if err == nil {
			return nil
		}
		text := s.logged()
		if time.Now().After(deadline) {
			return fmt.Errorf("it does not answer: %w\n%s", err, text[max(0, len(text)-3000):])
		}
		if strings.Contains(text, "is still in use") { // by processes of a PostgreSQL that was killed, which takes them a moment to see
			if err := errors.Join(s.kill(), s.launch()); err != nil {
				return err
			}
		}
	}
}

// logged returns what the server has logged since it was launched.
func (s *server) logged() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text[min(s.logStart, len(text)):])
}

func (s *server) launch() error {
	s.logStart += len(s.logged())
	keeper := exec.CommandContext(context.Background(), "sh", append([]string{"-c", keeperScript, "sh"}, s.command...)...)
	keeper.Dir, keeper.SysProcAttr = s.dir, &syscall.SysProcAttr{Credential: s.owner, Setsid: true}
	in, err := keeper.StdinPipe()
	if err != nil {
		return err
	}
	out, err := keeper.StdoutPipe()
	if err != nil {
		return err
	}
	if err := keeper.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.pid, s.keeper, s.stdin = pid, keeper, in
	s.mu.Unlock()
	return nil
}

// kill ends the server as a crash does.
func (s *server) kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keeper == nil {
		return nil
	}
	_, err := io.WriteString(s.stdin, "keep\n")
	_ = s.keeper.Wait() // which closes stdin, too
	s.keeper = nil
	for deadline := time.Now().Add(time.Minute); s.listens() && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	_ = os.Remove(filepath.Join(s.dir, "data", "postmaster.pid"))
	return err
}

// restartInOrder is for a server that is new and is to be killed: MariaDB 10.11 that is killed
// before its first checkpoint does not start again, since the first page of its data was never
// written.
func (s *server) restartInOrder() error {
	s.mu.Lock()
	err := syscall.Kill(s.pid, syscall.SIGTERM)
	s.mu.Unlock()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(s.logged(), "Shutdown complete") && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if err == nil {
		err = s.kill()
	}
	if err == nil {
		err = s.start()
	}
	return err
}

func (s *server) listens() bool {
	dialer := net.Dialer{Timeout: time.Second}
	c, err := dialer.DialContext(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)))
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

func (s *server) close() error { return errors.Join(s.kill(), os.RemoveAll(s.dir)) }

// dsn returns the name of the driver, and what to give it for a database.
func (s *server) dsn(database string) (driver, dsn string) {
	if s.kind == PostgreSQL {
		if database == "" {
			database = "postgres"
		}
		return "pgx", fmt.Sprintf("postgres://motif@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
	}
	return "mysql", fmt.Sprintf("root@tcp(127.0.0.1:%d)/%s?interpolateParams=true", s.port, database)
}

var databaseNumber atomic.Int64

// create makes an empty database, and returns how to open it.
func (s *server) create(t testing.TB) (driver, dsn string) {
	t.Helper()
	driver, dsn = s.dsn("")
	db, err := sql.Open(driver, dsn)
	must(t, err)
	defer db.Close()
	name := fmt.Sprintf("t%d", databaseNumber.Add(1))
	_, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name)
	must(t, err)
	return s.dsn(name)
}

func open(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	must(t, err)
	t.Cleanup(func() { must(t, db.Close()) })
	return db
}

// newDatabase returns an empty database, and how to open it in another process.
func newDatabase(t testing.TB, d Dialect) (driver, dsn string) {
	t.Helper()
	if d == SQLite {
		return "sqlite3", "file:" + filepath.Join(t.TempDir(), "db") + "?_busy_timeout=30000&_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate"
	}
	return sharedServer(t, d).create(t)
}

// onEach runs a test on each kind of database.
func onEach(t *testing.T, test func(t *testing.T, db *sql.DB, d Dialect)) {
	for _, d := range []Dialect{SQLite, PostgreSQL, MySQL} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			driver, dsn := newDatabase(t, d)
			test(t, open(t, driver, dsn), d)
		})
	}
}
