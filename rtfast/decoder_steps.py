"""The engine's side of a search: decode steps on a workspace. No keys or values move, whatever the search does."""


class DecoderSteps:
    """`search.Steps` on a workspace in which the source sentences are encoded.

    plain, choosing: the workspace's decoder programs, without and with the choice of the likeliest words.
    beams: 2 or more where targets branch, so many of each sentence from the second step on.
    """

    def __init__(self, workspace, plain, choosing, beams=1):
        self._workspace, self._plain, self._choosing, self._beams = workspace, plain, choosing, beams

    def begin(self, sources, prompts):
        self._workspace.begin_steps(sources, prompts[:, :-1], self._plain, self._beams)

    def step(self, ids, parents):
        self._go_on(parents)
        self._workspace.step(self._plain, ids)
        return self._workspace.result(self._plain, "logits")

    def top(self, ids, parents, k, log_probs):
        self._go_on(parents)
        self._workspace.index["top_options"][:] = k, log_probs
        self._workspace.step(self._choosing, ids)
        return self._workspace.top(self._choosing, len(ids), k)

    def logits(self):
        return self._workspace.result(self._choosing, "logits")

    def _go_on(self, parents):
        if parents is None:
            return
        if self._beams > 1:
            self._workspace.reorder(parents, self._beams)
        else:
            self._workspace.keep(parents)
