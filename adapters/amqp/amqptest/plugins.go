package amqptest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// pluginsUsed are the plugins that a node of ours may enable, and those that they need.
var pluginsUsed = []string{
	"rabbitmq_prelaunch", "rabbitmq_consistent_hash_exchange",
	"rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_web_dispatch",
}

// linkPlugins makes a folder of the home with RabbitMQ's libraries, but without the plugins that no
// node uses. Erlang looks for each module in the folder of one library after another: a start opens
// half as many files that are not there, and takes three quarters of the CPU.
func (h *home) linkPlugins() error {
	server := filepath.Join(h.root, h.server)
	if target, err := filepath.EvalSymlinks(server); err == nil && h.root == "" {
		server = target // of Homebrew
	}
	all, err := filepath.Glob(filepath.Join(filepath.Dir(server), "../plugins/*"))
	if err != nil || len(all) == 0 { // then only the server knows where they are
		return err
	}
	h.plugins = "plugins"
	if err := os.Mkdir(filepath.Join(h.folder, h.plugins), 0o700); err != nil {
		return err
	}
	for _, library := range all {
		name := filepath.Base(library)
		plugin, _, _ := strings.Cut(name, "-") // its version
		if strings.HasPrefix(plugin, "rabbitmq_") && !slices.Contains(pluginsUsed, plugin) {
			continue
		}
		if err := os.Symlink(strings.TrimPrefix(library, h.root), filepath.Join(h.folder, h.plugins, name)); err != nil {
			return err
		}
	}
	return nil
}
