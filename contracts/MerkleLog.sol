// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

/// @title Proofs of append-only logs
/// @notice Verifies the proofs of RFC 9162 (Certificate Transparency 2.0) about Merkle trees of RFC 6962 with SHA-256.
/// @dev OpenZeppelin's MerkleProof sorts each pair of hashes, and therefore proves neither a position nor growth.
/// SHA-256 is the precompiled contract 2. Its input of 65 bytes is written to free memory that is not allocated.
library MerkleLog {
    /// @notice SHA-256 did not answer: the call ran out of gas, or the chain has no such precompiled contract.
    error Sha256Failed();

    /// @notice Returns the hash of an entry as a leaf of the tree.
    /// @param entry Bytes of the entry.
    /// @return hash SHA-256 of a zero byte and the entry.
    function leafHash(bytes calldata entry) internal pure returns (bytes32 hash) {
        return sha256(abi.encodePacked(bytes1(0), entry));
    }

    /// @notice Returns whether a leaf is in a tree (RFC 9162, 2.1.3.2).
    /// @param root Root of the tree.
    /// @param size Number of leaves of the tree.
    /// @param leaf Hash of the leaf.
    /// @param index Position of the leaf, from 0.
    /// @param path Inclusion proof.
    /// @return included True if the path proves the leaf at this position.
    function includes(
        bytes32 root,
        uint64 size,
        bytes32 leaf,
        uint64 index,
        bytes32[] calldata path
    ) internal view returns (bool included) {
        if (index >= size) return false;
        (uint256 node, uint256 last) = (index, size - 1);
        bytes32 hash = leaf;
        for (uint256 i = 0; i < path.length; ++i) {
            if (last == 0) return false;
            bytes32 sibling = _item(path, i);
            if (node & 1 == 1 || node == last) {
                hash = _parent(sibling, hash);
                (node, last) = _skipLeftEdges(node, last);
            } else {
                hash = _parent(hash, sibling);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        return last == 0 && hash == root;
    }

    /// @notice Returns whether a tree continues an earlier tree, which must not be empty (RFC 9162, 2.1.4.2).
    /// @param earlierRoot Root of the earlier tree.
    /// @param earlierSize Number of leaves of the earlier tree, at least 1.
    /// @param root Root of the tree.
    /// @param size Number of leaves of the tree, greater than `earlierSize`.
    /// @param proof Consistency proof.
    /// @return continued True if the proof shows that the first `earlierSize` leaves of both trees are equal.
    function continues(
        bytes32 earlierRoot,
        uint64 earlierSize,
        bytes32 root,
        uint64 size,
        bytes32[] calldata proof
    ) internal view returns (bool continued) {
        if (proof.length == 0) return false;
        // The proof begins at the complete subtree at the end of the earlier tree, as wide as the lowest bit of its size.
        uint256 width = earlierSize & (~uint256(earlierSize) + 1);
        (uint256 node, uint256 last) = (earlierSize / width - 1, (size - 1) / width);

        // A complete earlier tree is a node of the tree, so the proof does not repeat its hash.
        uint256 next = node == 0 ? 0 : 1;
        bytes32 earlierHash = node == 0 ? earlierRoot : proof[0];
        bytes32 hash = earlierHash;
        for (; next < proof.length; ++next) {
            if (last == 0) return false;
            bytes32 sibling = _item(proof, next);
            if (node & 1 == 1 || node == last) {
                earlierHash = _parent(sibling, earlierHash);
                hash = _parent(sibling, hash);
                (node, last) = _skipLeftEdges(node, last);
            } else {
                hash = _parent(hash, sibling);
            }
            (node, last) = (node >> 1, last >> 1);
        }
        return last == 0 && earlierHash == earlierRoot && hash == root;
    }

    /// @dev Moves up from the last node of an incomplete level to the level at which the node has a left sibling.
    function _skipLeftEdges(uint256 node, uint256 last) private pure returns (uint256, uint256) {
        while (node & 1 == 0 && node != 0) (node, last) = (node >> 1, last >> 1);
        return (node, last);
    }

    /// @dev Returns an item of a list, which must have it: a checked access costs more for each hash.
    function _item(bytes32[] calldata list, uint256 index) private pure returns (bytes32 item) {
        assembly ("memory-safe") {
            item := calldataload(add(list.offset, shl(5, index)))
        }
    }

    /// @dev Returns the hash of a node: SHA-256 of the byte 1 and the hashes of its children.
    function _parent(bytes32 left, bytes32 right) private view returns (bytes32 hash) {
        bool answered;
        assembly ("memory-safe") {
            let input := mload(0x40)
            mstore8(input, 1)
            mstore(add(input, 0x01), left)
            mstore(add(input, 0x21), right)
            answered := staticcall(gas(), 2, input, 0x41, 0, 0x20)
            answered := and(answered, eq(returndatasize(), 0x20))
            hash := mload(0)
        }
        require(answered, Sha256Failed());
    }
}
