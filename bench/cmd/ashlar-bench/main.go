package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

var verbs = map[string]func(context.Context, []string) error{
	"compare": runCompare, "bootfile": runBootFile, "publish": runPublish, "sign": runSign, "update": runUpdate,
	"medium": runMedium, "iso": runISO, "seal": runSeal, "copy": runCopy,
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ashlar-bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		if args[0] == "profile" {
			return profiled(ctx, args[1:])
		}
		if verb := verbs[args[0]]; verb != nil {
			return verb(ctx, args[1:])
		}
	}
	return errors.New("the verb is compare; see docs/bench.md")
}
