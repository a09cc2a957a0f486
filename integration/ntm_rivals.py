"""Topic models of others, in an environment of their own: scikit-learn's online LDA and tomotopy's collapsed-Gibbs LDA.

Run by `integration/bench/ntm_newsgroups.py`: a name, documents and half documents as sparse matrices, the seed, topics and
passes; writes the words' shares by topic and the half documents' topics, and prints the seconds.
"""

import sys
import time

import numpy as np
from scipy.sparse import load_npz


def online(rows, asked, seed, topics, passes):
    from sklearn.decomposition import LatentDirichletAllocation

    lda = LatentDirichletAllocation(
        topics, doc_topic_prior=0.1, topic_word_prior=0.01, learning_method="online", max_iter=passes, batch_size=256,
        random_state=seed,
    )  # fmt: skip
    lda.fit(rows)
    return lda.components_ / lda.components_.sum(axis=1, keepdims=True), lda.transform(asked)


def tokens(row):
    return [str(word) for word in np.repeat(row.indices, row.data.astype(int))]


def gibbs(rows, asked, seed, topics, passes):
    import tomotopy

    model = tomotopy.LDAModel(k=topics, alpha=0.1, eta=0.01, seed=seed + 1)
    for row in rows:
        model.add_doc(tokens(row))
    model.train(passes, workers=1)
    beta = np.full((topics, rows.shape[1]), 1e-12)
    used = [int(word) for word in model.used_vocabs]
    for topic in range(topics):
        beta[topic, used] = model.get_topic_word_dist(topic)
    theta, _ = model.infer([model.make_doc(tokens(row)) for row in asked], iterations=100, workers=1)
    return beta, np.array(theta)


if __name__ == "__main__":
    name, rows_path, asked_path, out, seed, topics, passes = sys.argv[1:]
    began = time.process_time()
    made = {"online": online, "gibbs": gibbs}[name](
        load_npz(rows_path).tocsr(), load_npz(asked_path).tocsr(), int(seed), int(topics), int(passes)
    )
    np.savez(out, beta=made[0], theta=made[1])
    print(time.process_time() - began)
