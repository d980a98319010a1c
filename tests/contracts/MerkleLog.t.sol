// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {MerkleLog} from "../../contracts/MerkleLog.sol";
import {ForgeTest} from "./Forge.sol";
import {ReferenceTree} from "./ReferenceTree.sol";

/// @title Further cheat codes: reading the vectors, and answers of other contracts
interface MoreVm {
    function mockCall(address callee, bytes calldata data, bytes calldata answer) external;

    function mockCallRevert(address callee, bytes calldata data, bytes calldata answer) external;

    function readFile(string calldata path) external view returns (string memory text);

    function parseJson(string calldata json, string calldata key) external pure returns (bytes memory value);
}

/// @title The functions of MerkleLog, with arguments as calldata
contract MerkleLogCaller {
    function leafHash(bytes calldata entry) external pure returns (bytes32) {
        return MerkleLog.leafHash(entry);
    }

    function includes(
        bytes32 root,
        uint64 size,
        bytes32 leaf,
        uint64 index,
        bytes32[] calldata path
    ) external view returns (bool) {
        return MerkleLog.includes(root, size, leaf, index, path);
    }

    function continues(
        bytes32 earlierRoot,
        uint64 earlierSize,
        bytes32 root,
        uint64 size,
        bytes32[] calldata proof
    ) external view returns (bool) {
        return MerkleLog.continues(earlierRoot, earlierSize, root, size, proof);
    }
}

/// @title MerkleLog against the definitions of RFC 6962 and against golang.org/x/mod/sumdb/tlog
contract MerkleLogTest is ForgeTest {
    /// @dev The members are in alphabetical order, as `parseJson` wants them.
    struct Consistency {
        uint256 earlier;
        bytes32 earlierRoot;
        bool ok;
        bytes32[] proof;
        bytes32 root;
        uint256 size;
    }

    struct Inclusion {
        bytes entry;
        uint256 index;
        bytes32 leaf;
        bool ok;
        bytes32[] path;
        bytes32 root;
        uint256 size;
    }

    MoreVm private constant MORE = MoreVm(address(uint160(uint256(keccak256("hevm cheat code")))));

    MerkleLogCaller private _library = new MerkleLogCaller();

    /// @notice Whatever Go proves is accepted, and what Go refuses is refused (tests/peers/tlog).
    function test_L2_goAgreesOnConsistencyProofs() external {
        Consistency[] memory vectors = abi.decode(_vectors(".consistency"), (Consistency[]));
        require(vectors.length > 100, "L2: vectors");
        for (uint256 i = 0; i < vectors.length; ++i) {
            Consistency memory one = vectors[i];
            bool ok = _library.continues(
                one.earlierRoot,
                uint64(one.earlier),
                one.root,
                uint64(one.size),
                one.proof
            );
            require(ok == one.ok, "L2: Go");
        }
    }

    function test_L3_goAgreesOnInclusionProofs() external {
        Inclusion[] memory vectors = abi.decode(_vectors(".inclusion"), (Inclusion[]));
        require(vectors.length > 100, "L3: vectors");
        for (uint256 i = 0; i < vectors.length; ++i) {
            Inclusion memory one = vectors[i];
            require(_library.leafHash(one.entry) == one.leaf, "L3: leaf");
            bool ok = _library.includes(one.root, uint64(one.size), one.leaf, uint64(one.index), one.path);
            require(ok == one.ok, "L3: Go");
        }
    }

    function testFuzz_L2_aTreeContinuesItsPrefixes(uint256 size, uint256 earlier, bytes32 seed, uint256 damage) external view {
        size = _pick(size, 2, 70);
        earlier = _pick(earlier, 1, size - 1);
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32 earlierRoot = ReferenceTree.root(leaves, 0, earlier);
        bytes32 root = ReferenceTree.root(leaves, 0, size);
        bytes32[] memory proof = ReferenceTree.proof(leaves, earlier, size);
        require(_library.continues(earlierRoot, uint64(earlier), root, uint64(size), proof), "L2: refused");
        bool ok = _library.continues(earlierRoot, uint64(earlier), root, uint64(size), _damaged(proof, damage));
        require(!ok, "L2: damaged proof");
        bytes32 other = bytes32(uint256(root) ^ (1 << (damage % 256)));
        require(!_library.continues(earlierRoot, uint64(earlier), other, uint64(size), proof), "L2: another root");
        other = bytes32(uint256(earlierRoot) ^ (1 << (damage % 256)));
        require(!_library.continues(other, uint64(earlier), root, uint64(size), proof), "L2: another history");
    }

    function testFuzz_L3_anEntryIsAtItsIndex(uint256 size, uint256 index, bytes32 seed, uint256 damage) external view {
        size = _pick(size, 1, 70);
        index = _pick(index, 0, size - 1);
        bytes32[] memory leaves = _leaves(size, seed);
        bytes32 root = ReferenceTree.root(leaves, 0, size);
        bytes32[] memory path = ReferenceTree.path(leaves, index, 0, size);
        bytes32 leaf = leaves[index];
        require(_library.includes(root, uint64(size), leaf, uint64(index), path), "L3: refused");
        require(!_library.includes(root, uint64(size), leaf, uint64(index), _damaged(path, damage)), "L3: damaged path");
        uint256 other = _pick(damage, 0, size + 1);
        bool ok = _library.includes(root, uint64(size), leaf, uint64(other), path);
        require(ok == (other == index), "L3: another index");
        leaf ^= bytes32(uint256(1) << (damage % 256));
        require(!_library.includes(root, uint64(size), leaf, uint64(index), path), "L3: another entry");
    }

    function testFuzz_L3_aLeafIsAnEntryAfterAZeroByte(bytes calldata entry) external view {
        require(_library.leafHash(entry) == ReferenceTree.leafHash(entry), "L3: leaf");
    }

    function test_L3_aLogOfTheGreatestSizeIsVerified() external view {
        (uint64 size, bytes32 hash) = (type(uint64).max, "leaf");
        bytes32[] memory path = new bytes32[](64);
        bytes32 root = hash;
        for (uint256 i = 0; i < 64; ++i) root = ReferenceTree.nodeHash(root, path[i] = bytes32(i));
        require(_library.includes(root, size, hash, 0, path), "L3: first of 2^64 - 1");
        require(_library.continues(hash, 1, root, size, path), "L2: from 1 to 2^64 - 1");
    }

    function test_L3_aFailureOfSha256IsRefused() external {
        bytes memory call = abi.encodeCall(_library.includes, (0, 2, 0, 0, new bytes32[](1)));
        bytes memory refusal = abi.encodeWithSelector(MerkleLog.Sha256Failed.selector);
        MORE.mockCallRevert(address(2), "", "");
        _expect(address(this), address(_library), call, refusal);
        MORE.mockCall(address(2), "", "");
        _expect(address(this), address(_library), call, refusal);
        MORE.mockCall(address(2), "", abi.encode(1));
        _expect(address(this), address(_library), call, "");
    }

    /// @dev Returns a proof that is cut, extended, or changed in one bit.
    function _damaged(bytes32[] memory proof, uint256 damage) private pure returns (bytes32[] memory) {
        if (proof.length == 0 || damage % 4 == 0) return ReferenceTree.appended(proof, bytes32(damage));
        if (damage % 4 == 1) return ReferenceTree.shortened(proof);
        proof = ReferenceTree.shortened(ReferenceTree.appended(proof, 0));
        proof[damage % proof.length] ^= bytes32(uint256(1) << ((damage >> 8) % 256));
        return proof;
    }

    function _leaves(uint256 size, bytes32 seed) private pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](size);
        for (uint256 i = 0; i < size; ++i) leaves[i] = keccak256(abi.encode(seed, i));
    }

    function _vectors(string memory key) private view returns (bytes memory) {
        return MORE.parseJson(MORE.readFile("tests/contracts/tlog_vectors.json"), key);
    }
}
