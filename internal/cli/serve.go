package cli

import (
	"context"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/ashlar-os/ashlar/internal/registry"
)

type serveOptions struct {
	dir        string
	listen     string
	repository string
	log        bool
}

// serveAnswer is what --json prints once the server listens.
type serveAnswer struct {
	Address string `json:"address"` // HOST:PORT
	Dir     string `json:"dir"`
}

func newServeCommand(g *globals) *cobra.Command {
	var opts serveOptions
	c := &cobra.Command{
		Use:     "serve OUT",
		GroupID: "publish",
		Short:   "Serve a directory of releases as a read-only registry",
		Long: `Serve answers with the OCI distribution API for what is in OUT, an OCI layout
directory as "ashlar build" writes it: machines update from it, podman and
skopeo pull from it. A release that is built into OUT meanwhile is seen.

It speaks plain HTTP and knows no users: whatever is in OUT is public to whoever
reaches the address. Without --repository every repository name is answered.
Ctrl-C ends it.`,
		Example: `  ashlar serve out/
  ashlar serve out/ --listen 0.0.0.0:5000 --log
  podman run --tls-verify=false 127.0.0.1:5000/server:stable cat /etc/os-release`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveFilterDirs
		},
		RunE: func(c *cobra.Command, args []string) error {
			opts.dir = args[0]
			return runServe(c.Context(), opts, g)
		},
	}
	c.Flags().StringVar(&opts.listen, "listen", "127.0.0.1:5000", "`ADDRESS` to listen on; port 0 takes a free one")
	c.Flags().StringVar(&opts.repository, "repository", "", "serve under this `NAME` only")
	c.Flags().BoolVar(&opts.log, "log", false, "write a line for each request to stderr")
	return c
}

func runServe(ctx context.Context, opts serveOptions, g *globals) error {
	server, err := registry.NewServer(opts.dir, registry.ServerOptions{
		Repository: opts.repository,
		Log:        requestLog(opts.log, g),
	})
	if err != nil {
		return err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", opts.listen)
	if err != nil {
		return fmt.Errorf("serving %q: %w", opts.dir, err)
	}
	address := listener.Addr().String()
	if g.json {
		err = g.printJSON(serveAnswer{Address: address, Dir: opts.dir})
	} else {
		g.printf("serving %s on http://%s (Ctrl-C ends it)\n", opts.dir, address)
	}
	if err != nil {
		listener.Close()
		return err
	}
	return server.Serve(ctx, listener)
}

func requestLog(wanted bool, g *globals) func(registry.LogEntry) {
	if !wanted {
		return nil
	}
	return func(e registry.LogEntry) {
		asked := e.Path
		if e.Range != "" {
			asked += " " + e.Range
		}
		fmt.Fprintf(g.stderr, "%s %q %d, %d bytes\n", e.Method, asked, e.Status, e.Bytes)
	}
}
